//! The items of a budget, which errors name.

use std::fmt;

macro_rules! items {
    ($($name:ident = $method:ident $text:literal,)*) => {
        /// An item of a [`Budget`](crate::Budget).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum BudgetItem {
            $(
                #[doc = concat!("[`Budget::", stringify!($method), "`](crate::Budget::", stringify!($method), ").")]
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
                    $(BudgetItem::$name => concat!("Budget::", stringify!($method)),)*
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
    WallTime = wall_time "wall time",
    CpuTime = cpu_time "CPU time",
    Memory = memory "memory",
    Stack = stack "stack",
    Output = output "output",
    FilesWritten = files_written "bytes written to files",
    Written = written "bytes written",
    FileSize = file_size "file size",
    OpenFiles = open_files "open files",
}
