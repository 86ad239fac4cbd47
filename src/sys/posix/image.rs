//! Initial contents of memories: there are no sealed files in memory, so there are no images.

use crate::error::Result;

pub(crate) enum Image {}

impl Image {
    pub fn new(_: &[u8], _: usize) -> Option<Self> {
        None
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        match *self {}
    }

    pub fn id(&self) -> u64 {
        match *self {}
    }

    /// # Safety
    /// None is needed: there is no image.
    pub unsafe fn map(&self, _: *mut u8) -> Result<()> {
        match *self {}
    }
}
