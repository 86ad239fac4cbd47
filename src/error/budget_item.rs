//! The items of a budget, which errors name.

use std::fmt;

macro_rules! items {
    ($($(#[$doc:meta])* $name:ident = $method:literal $text:literal,)*) => {
        /// An item of a [`Budget`](crate::Budget).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum BudgetItem {
            $(
                $(#[$doc])*
                $name,
            )*
        }

        impl BudgetItem {
            pub(crate) const ALL: &[BudgetItem] = &[$(BudgetItem::$name),*];

            /// The name of the method of [`Budget`](crate::Budget) that sets it, as messages of errors have it.
            ///
            /// ```
            /// assert_eq!(wasmrun::BudgetItem::CpuTime.method(), "Budget::cpu_time");
            /// ```
            pub fn method(self) -> &'static str {
                match self {
                    $(BudgetItem::$name => $method,)*
                }
            }
        }

        impl fmt::Display for BudgetItem {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(BudgetItem::$name => $text,)*
                })
            }
        }
    };
}

items! {
    /// [`Budget::wall_time`](crate::Budget::wall_time).
    WallTime = "Budget::wall_time" "wall time",
    /// [`Budget::cpu_time`](crate::Budget::cpu_time).
    CpuTime = "Budget::cpu_time" "CPU time",
    /// [`Budget::memory`](crate::Budget::memory).
    Memory = "Budget::memory" "memory",
    /// [`Budget::stack`](crate::Budget::stack).
    Stack = "Budget::stack" "stack",
    /// [`Budget::output`](crate::Budget::output).
    Output = "Budget::output" "output",
    /// [`Budget::files_written`](crate::Budget::files_written).
    FilesWritten = "Budget::files_written" "bytes written to files",
    /// [`Budget::written`](crate::Budget::written).
    Written = "Budget::written" "bytes written",
    /// [`Budget::file_size`](crate::Budget::file_size).
    FileSize = "Budget::file_size" "file size",
    /// [`Budget::open_files`](crate::Budget::open_files).
    OpenFiles = "Budget::open_files" "open files",
}
