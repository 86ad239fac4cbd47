//! What a call may write: as much as the environment's limits and the budget of its store allow, which also counts it.

use crate::error::BudgetItem;
use crate::vm::budget::{IoAccount, Sink};
use crate::wasi::env::Limits;
use crate::wasi::errno::Errno;
use crate::wasi::table::{Descriptor, HostFile, Object};
use crate::wasi::types::Filetype;
use std::sync::Arc;

impl From<BudgetItem> for Errno {
    /// What a program gets when it is refused something for the item.
    fn from(item: BudgetItem) -> Self {
        match item {
            BudgetItem::FileSize => Errno::Fbig,
            BudgetItem::OpenFiles => Errno::Mfile,
            _ => Errno::Dquot,
        }
    }
}

/// What may be written to a descriptor.
pub(crate) struct Quota<'a> {
    limits: Option<Arc<Limits>>,
    account: &'a IoAccount,
    sink: Sink,
}

impl<'a> Quota<'a> {
    pub(crate) fn new(descriptor: &Descriptor, limits: Option<Arc<Limits>>, account: &'a IoAccount) -> Self {
        let sink = match descriptor.object {
            Object::Host(HostFile::Found(_)) if descriptor.filetype == Filetype::RegularFile => Sink::File,
            _ => Sink::Output,
        };
        Quota { limits, account, sink }
    }

    /// Whether the size of a file is limited.
    #[inline]
    pub(crate) fn limits_file_size(&self) -> bool {
        self.limits.is_some() || self.account.limits_file_size()
    }

    /// How far a file may be extended when `len` bytes go to `position`.
    pub(crate) fn within_file(&self, position: u64, len: u64) -> Result<u64, Errno> {
        let len = self.account.within_file(position, len)?;
        self.limits.as_ref().map_or(Ok(len), |limits| limits.within_file(position, len))
    }

    /// Whether a file may be `size` bytes long.
    pub(crate) fn check_size(&self, size: u64) -> Result<(), Errno> {
        self.account.check_size(size)?;
        self.limits.as_ref().map_or(Ok(()), |limits| limits.check_size(size))
    }

    /// Takes up to `len` bytes, to be written; what is not must be given back.
    #[inline]
    pub(crate) fn take(&self, len: u64) -> Result<u64, Errno> {
        let own = self.account.take(self.sink, len)?;
        let Some(limits) = &self.limits else { return Ok(own) };
        let taken = limits.take(own);
        self.account.give_back(self.sink, own - taken.unwrap_or(0));
        taken
    }

    /// As [`Quota::take`], for bytes that can't be written in part.
    pub(crate) fn take_all(&self, len: u64) -> Result<(), Errno> {
        self.account.take_all(self.sink, len)?;
        let Some(limits) = &self.limits else { return Ok(()) };
        let result = match limits.take(len) {
            Ok(taken) if taken == len => return Ok(()),
            Ok(taken) => {
                limits.give_back(taken);
                Err(limits.used_up())
            }
            Err(errno) => Err(errno),
        };
        self.account.give_back(self.sink, len);
        result
    }

    /// Gives back what was taken and not written.
    #[inline]
    pub(crate) fn give_back(&self, len: u64) {
        if len > 0 {
            self.account.give_back(self.sink, len);
            if let Some(limits) = &self.limits {
                limits.give_back(len);
            }
        }
    }
}
