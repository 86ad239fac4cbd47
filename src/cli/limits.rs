//! The flags that limit what a program may use, and the budget that they stand for.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::output;
use super::process::MAX_WASM_STACK;
use super::sandbox::{byte_count, number, time};
use crate::{Budget, BudgetItem, BudgetUsed};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// End the program when it has used so much processor time (such as 2s or 500ms)
    #[arg(long, value_name = "TIME")]
    pub max_cpu: Option<Given<Duration>>,

    /// Let its memories, tables and collected objects have no more than BYTES together (a number, or one with K, M, G or T)
    #[arg(long, value_name = "BYTES")]
    pub max_memory: Option<Given<ByteCount>>,

    /// Let its calls take no more than BYTES of stack, 64M at most, which is what it has without the flag
    #[arg(long, value_name = "BYTES")]
    pub max_stack: Option<Given<StackBytes>>,

    /// Let it write no more than BYTES to standard output and error, sockets, pipes and devices, together
    #[arg(long, value_name = "BYTES")]
    pub max_output: Option<Given<ByteCount>>,

    /// Let it write no more than BYTES to the files that it opens, together
    #[arg(long, value_name = "BYTES")]
    pub max_files_written: Option<Given<ByteCount>>,

    /// Let it write no more than BYTES in all, to files and standard output
    #[arg(long, value_name = "BYTES")]
    pub max_written: Option<Given<ByteCount>>,

    /// Let no file grow beyond BYTES
    #[arg(long, value_name = "BYTES")]
    pub max_file_size: Option<Given<ByteCount>>,

    /// Let it have no more than N open files, its standard streams and directories included
    #[arg(long, value_name = "N")]
    pub max_open_files: Option<Given<u64>>,
}

/// The value of a flag, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given<T> {
    value: T,
    text: String,
}

impl<T: FlagValue> FromStr for Given<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Given { value: T::parse(text)?, text: text.into() })
    }
}

/// What a flag takes.
pub(super) trait FlagValue: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What was expected.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteCount(u64);

/// A number of bytes that the stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StackBytes(usize);

impl FlagValue for ByteCount {
    fn parse(text: &str) -> Result<Self, String> {
        byte_count(text).map(ByteCount)
    }
}

impl FlagValue for StackBytes {
    fn parse(text: &str) -> Result<Self, String> {
        match byte_count(text)? {
            bytes if bytes <= MAX_WASM_STACK as u64 => Ok(StackBytes(bytes as usize)),
            _ => Err(format!("it is {}M at most", MAX_WASM_STACK >> 20)),
        }
    }
}

impl FlagValue for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        number(text)
    }
}

impl FlagValue for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        time(text)
    }
}

impl LimitArgs {
    /// The budget of these limits; `measures` whether CPU time is to be measured also if it is not limited.
    pub fn budget(&self, measures: bool) -> Budget {
        let bytes = |given: &Option<Given<ByteCount>>| given.as_ref().map(|given| given.value.0);
        let cpu_time = self.max_cpu.as_ref().map(|given| given.value).or(measures.then_some(Duration::MAX));
        let stack = self.max_stack.as_ref().map(|given| given.value.0);
        let open_files = self.max_open_files.as_ref().map(|given| given.value);
        let mut budget = Budget::new();
        let set = |budget: &mut Budget, value: Option<u64>, set: fn(Budget, u64) -> Budget| {
            if let Some(value) = value {
                *budget = set(*budget, value);
            }
        };
        set(&mut budget, bytes(&self.max_memory), Budget::memory);
        set(&mut budget, bytes(&self.max_output), Budget::output);
        set(&mut budget, bytes(&self.max_files_written), Budget::files_written);
        set(&mut budget, bytes(&self.max_written), Budget::written);
        set(&mut budget, bytes(&self.max_file_size), Budget::file_size);
        set(&mut budget, open_files, Budget::open_files);
        budget = cpu_time.map_or(budget, |time| budget.cpu_time(time));
        stack.map_or(budget, |bytes| budget.stack(bytes))
    }

    /// The flag of an item, as it was given.
    pub fn flag(&self, item: BudgetItem) -> Option<String> {
        self.flags().into_iter().find_map(|(own, flag)| if own == item { flag } else { None })
    }

    /// All flags that were given.
    pub fn to_args(&self) -> impl Iterator<Item = String> {
        self.flags().into_iter().filter_map(|(_, flag)| flag)
    }

    fn flags(&self) -> [(BudgetItem, Option<String>); 8] {
        fn flag<T>(name: &str, given: &Option<Given<T>>) -> Option<String> {
            given.as_ref().map(|given| format!("--{name}={}", given.text))
        }
        [
            (BudgetItem::CpuTime, flag("max-cpu", &self.max_cpu)),
            (BudgetItem::Memory, flag("max-memory", &self.max_memory)),
            (BudgetItem::Stack, flag("max-stack", &self.max_stack)),
            (BudgetItem::Output, flag("max-output", &self.max_output)),
            (BudgetItem::FilesWritten, flag("max-files-written", &self.max_files_written)),
            (BudgetItem::Written, flag("max-written", &self.max_written)),
            (BudgetItem::FileSize, flag("max-file-size", &self.max_file_size)),
            (BudgetItem::OpenFiles, flag("max-open-files", &self.max_open_files)),
        ]
    }

    /// What a program has used, a line each, with the limits.
    pub fn used_as_text(&self, used: &BudgetUsed) -> String {
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let cpu_time = used.cpu_time.map_or("-".into(), millis);
        let rows = [
            ("CPU time", cpu_time, Some(BudgetItem::CpuTime)),
            ("memory", output::bytes(used.memory), Some(BudgetItem::Memory)),
            ("  linear", output::bytes(used.linear_memory), None),
            ("  tables", output::bytes(used.tables), None),
            ("  objects", output::bytes(used.heap), None),
            ("stack", "-".into(), Some(BudgetItem::Stack)),
            ("output", output::bytes(used.output), Some(BudgetItem::Output)),
            ("files written", output::bytes(used.files_written), Some(BudgetItem::FilesWritten)),
            ("all written", output::bytes(used.output + used.files_written), Some(BudgetItem::Written)),
            ("open files", used.open_files.to_string(), Some(BudgetItem::OpenFiles)),
        ];
        let mut text = String::from("used                           limit\n");
        for (name, amount, item) in rows {
            let limit = item.and_then(|item| self.flag(item)).unwrap_or_default();
            text.push_str(format!("{name:<16} {amount:>11}   {limit}").trim_end());
            text.push('\n');
        }
        text
    }
}

/// As [`LimitArgs::used_as_text`], for programs, with the items of the budget that were reached.
pub(super) fn used_as_json(used: &BudgetUsed, reached: &[BudgetItem]) -> serde_json::Value {
    serde_json::json!({
        "cpu_ms": used.cpu_time.map(|time| time.as_micros() as f64 / 1000.0),
        "memory_bytes": used.memory,
        "linear_memory_bytes": used.linear_memory,
        "table_bytes": used.tables,
        "object_bytes": used.heap,
        "output_bytes": used.output,
        "files_written_bytes": used.files_written,
        "open_files": used.open_files,
        "limits_reached": reached.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_sets_its_item_and_is_told_as_it_was_given() {
        let args = LimitArgs {
            max_cpu: "2s".parse().ok(),
            max_memory: "64M".parse().ok(),
            max_stack: "1M".parse().ok(),
            max_output: "1K".parse().ok(),
            max_files_written: "2K".parse().ok(),
            max_written: "3K".parse().ok(),
            max_file_size: "4K".parse().ok(),
            max_open_files: "5".parse().ok(),
        };
        let all = Budget::new().cpu_time(Duration::from_secs(2)).memory(64 << 20).stack(1 << 20);
        let all = all.output(1 << 10).files_written(2 << 10).written(3 << 10).file_size(4 << 10).open_files(5);
        assert_eq!(args.budget(true), all);
        assert_eq!(args.flag(BudgetItem::Memory).as_deref(), Some("--max-memory=64M"));
        assert_eq!(args.to_args().count(), 8);
        assert_eq!(LimitArgs::default().budget(false), Budget::new());
        assert_eq!(LimitArgs::default().budget(true), Budget::new().cpu_time(Duration::MAX));
        assert!("65M".parse::<Given<StackBytes>>().is_err() && "64M".parse::<Given<StackBytes>>().is_ok());
    }
}
