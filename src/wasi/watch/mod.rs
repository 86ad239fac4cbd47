//! Watching a program's calls: a trace of each, and a record of what it was refused.
//!
//! All is derived from the one list of functions in `preview1`: the kinds below are the names of its argument types.

mod denial;
mod trace;

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{Arc, Mutex};

pub(crate) use denial::join;
pub use denial::{Denial, Refusal};

use crate::error::BudgetItem;
use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::{self, Errno};
use crate::wasi::stream::lock;
use crate::wasi::types::Abi;
use denial::{MAX_DENIALS, Subject};

/// How an argument is shown: by the name of its type in the list of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AdviceBits,
    Bits,
    Buffer,
    Ciovs,
    ClockBits,
    Dircookie,
    Exitcode,
    Fd,
    FdflagsBits,
    Filedelta,
    Filesize,
    FstflagsBits,
    Iovs,
    LookupBits,
    OflagsBits,
    Out16,
    Out32,
    Out64,
    OutFdstat,
    OutFilestat,
    Path,
    Pointer,
    RightsBits,
    ShutdownBits,
    Size,
    Subscriptions,
    Text,
    Timestamp,
    WhenceBits,
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) value: u64,
}

impl Argument {
    pub(in crate::wasi) fn pointer(&self) -> u32 {
        self.value as u32
    }
}

/// What is recorded of the calls: a trace, denials, or both.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    pub(crate) trace: Option<Arc<Mutex<dyn Write + Send>>>,
    pub(crate) denials: Option<Arc<Mutex<Vec<Denial>>>>,
}

/// A call that has begun.
pub(crate) struct Call {
    watch: Watch,
    function: &'static str,
    arguments: Vec<Argument>,
    abi: Abi,
    /// What is still to be written of the trace.
    line: String,
    subjects: Vec<Subject>,
    /// The limits that are set: only these can have been the reason for a failure.
    limits: (bool, bool),
}

impl Watch {
    /// Whether anything is recorded.
    pub(crate) fn is_wanted(&self) -> bool {
        self.trace.is_some() || self.denials.is_some()
    }

    #[cold]
    pub(crate) fn begin(
        &self,
        wasi: &Wasi,
        memory: &LinearMemory<'_>,
        function: &'static str,
        arguments: &[Argument],
    ) -> Result<Call, Errno> {
        let limits = {
            let env = wasi.lock()?;
            (env.limits.is_some(), env.table.limit != usize::MAX)
        };
        let mut call = Call {
            watch: self.clone(),
            function,
            arguments: arguments.into(),
            abi: wasi.abi,
            line: String::new(),
            subjects: vec![],
            limits,
        };
        if self.denials.is_some() {
            call.subjects = denial::subjects(wasi, memory, arguments);
        }
        if self.trace.is_some() {
            call.line = trace::head(wasi, memory, function, arguments);
            // An embedder's stream may make it wait for long.
            if function == "fd_read" {
                call.write();
            }
        }
        Ok(call)
    }
}

impl Call {
    /// Writes the trace of a call that is about to wait.
    #[cold]
    pub(crate) fn write(&mut self) {
        if let Some(trace) = &self.watch.trace {
            // An error of the trace's stream has nowhere to be reported.
            let _ = lock(trace).write_all(self.line.as_bytes());
        }
        self.line.clear();
    }

    /// Records how the call ended: with an errno, or without one because it ended the program. `refused` is the item of the
    /// store's budget that something was refused for.
    #[cold]
    pub(crate) fn end(mut self, memory: &LinearMemory<'_>, errno: Option<u32>, refused: Option<BudgetItem>) {
        let errno = errno.and_then(|number| errno::ALL.get(number as usize).copied());
        if let (Some(denials), Some(errno)) = (&self.watch.denials, errno)
            && let Some(denial) = denial::of_call(&self, errno, refused)
        {
            let mut denials = lock(denials);
            let most = if denial.reason == Refusal::NotFound { MAX_DENIALS / 2 } else { MAX_DENIALS };
            if denials.len() < most && !denials.contains(&denial) {
                denials.push(denial);
            }
        }
        if self.watch.trace.is_some() {
            match errno {
                None => self.line.push_str(" = ?"),
                Some(errno) => {
                    let _ = write!(self.line, " = {}", errno.name());
                    if errno == Errno::Success {
                        let results = trace::results(&self, memory);
                        self.line.push_str(&results);
                    }
                }
            }
            self.line.push('\n');
            self.write();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("trace", &self.trace.is_some()).field("denials", &self.denials).finish()
    }
}
