//! The initial contents of a module's memory 0, which later instances map copy-on-write instead of copying data segments.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::space::WRITTEN_TO_CLEAR;
use crate::module::offsets::Location;
use crate::module::{ConstOp, ModuleFacts, SegmentMode};
use crate::sys::Image;

/// Up to so many bytes of data, copying is faster than an image, with its page fault for each page that is written to.
const MIN_DATA: usize = 16 << 10;

/// The image of a module's memory 0, for all instances but the first two. The first copies its segments and no image is
/// made, because most programs make no second instance. The second copies its segments too; the image is made from its memory.
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

    /// Counts an instance, whose data segments have been copied. Returns the range of its memory that [`MemoryImage::make`]
    /// should get, if an image should be made now.
    pub fn count_instance(&self, module: &ModuleFacts) -> Option<Range<usize>> {
        if self.image.get().is_some() || self.instances.fetch_add(1, Ordering::Relaxed) != 1 {
            return None;
        }
        let range = data_range(module);
        if range.is_none() {
            let _ = self.image.set(None);
        }
        range
    }

    /// Makes the image from `bytes`, whole pages of a memory from byte `start` on.
    pub fn make(&self, bytes: &[u8], start: usize) {
        // If the system has no images or makes none, all instances copy their segments.
        let _ = self.image.set(Image::new(bytes, start));
    }
}

/// The whole pages of memory 0 that the active data segments lie in. `None` if the module imports the memory, if the
/// contents may differ between instances (an offset is no constant), if a segment is for another memory, or if an image
/// would not pay. Must be called when all segments have been copied once, so that they are known to fit the memory.
fn data_range(module: &ModuleFacts) -> Option<Range<usize>> {
    if module.memories.is_empty() || matches!(module.offsets.memory(0), Location::Pointer(_)) {
        return None;
    }
    let (mut start, mut end, mut bytes) = (usize::MAX, 0, 0);
    for segment in &module.data {
        let SegmentMode::Active { index, offset } = &segment.mode else { continue };
        let ([ConstOp::Slot(offset)], 0) = (&offset.0[..], index) else { return None };
        let Ok(offset) = usize::try_from(*offset) else { return None };
        start = start.min(offset);
        end = end.max(offset + segment.bytes.len());
        bytes += segment.bytes.len();
    }
    let page = region::page::size();
    let range = start / page * page..end.next_multiple_of(page);
    let memory = module.memories[0].minimum_bytes();
    // If the segments are far apart, most of the image would be zeros. The pages of a small memory stay when it goes, so that
    // copying costs no faults.
    let pays = bytes > MIN_DATA && range.len() / 4 <= bytes && memory > WRITTEN_TO_CLEAR as u64;
    (pays && range.end as u64 <= memory).then_some(range)
}
