//! What active data segments make of a memory, kept so that further instances share it, copy-on-write.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::module::offsets::Location;
use crate::module::{ConstOp, ModuleFacts, SegmentMode};
use crate::sys::Image;

/// Bytes of data that are copied faster than they are mapped and then, page by page, copied where written to.
const SMALL: usize = 64 << 10;

/// The image of a module's memory 0. The first instance copies the segments, as in most programs there is no second;
/// the second copies them too, and what it has then is kept for all others.
#[derive(Default)]
pub(crate) struct MemoryImage {
    instances: AtomicU32,
    image: OnceLock<Option<Image>>,
}

impl MemoryImage {
    /// The image, if there is one.
    pub fn get(&self) -> Option<&Image> {
        self.image.get()?.as_ref()
    }

    /// Counts an instance, all of whose data segments have been copied; if an image should be made of its memory, the
    /// part that it should have.
    pub fn wanted(&self, module: &ModuleFacts) -> Option<Range<usize>> {
        if self.image.get().is_some() || self.instances.fetch_add(1, Ordering::Relaxed) != 1 {
            return None;
        }
        let range = data_range(module);
        if range.is_none() {
            let _ = self.image.set(None);
        }
        range
    }

    /// Keeps a part of a memory, from byte `start` on, which begins and ends between pages.
    pub fn make(&self, bytes: &[u8], start: usize) {
        // Without an image, segments are copied: where the system has none, that is all.
        let _ = self.image.set(Image::new(bytes, start));
    }
}

/// The pages of memory 0 that an image must have: `None` if it would not be the same for all instances, could trap, or
/// would not pay. It is asked for when all segments have been copied once, so they fit every instance's memory.
fn data_range(module: &ModuleFacts) -> Option<Range<usize>> {
    if module.memories.is_empty() || matches!(module.offsets.memory(0), Location::Pointer(_)) {
        return None;
    }
    let (mut start, mut end, mut bytes) = (usize::MAX, 0, 0);
    for segment in &module.data {
        let SegmentMode::Active { index, offset } = &segment.mode else { continue };
        let ([ConstOp::Slot(offset)], 0) = (&offset.0[..], index) else { return None };
        let offset = *offset as u32 as usize;
        start = start.min(offset);
        end = end.max(offset + segment.bytes.len());
        bytes += segment.bytes.len();
    }
    let page = region::page::size();
    let range = start / page * page..end.next_multiple_of(page);
    // Segments far from each other would make an image of zeros.
    let pays = bytes > SMALL && range.len() / 4 <= bytes;
    (pays && range.end as u64 <= module.memories[0].minimum * super::memory::PAGE).then_some(range)
}
