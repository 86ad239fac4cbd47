//! Debug sections of a module, read when a symbol is asked for.

use std::array;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ModuleFacts;
use super::source::ModuleSource;
use crate::error::FrameSymbol;
use crate::symbols::demangle::Demangler;
use crate::symbols::{MAX_BYTES, SECTIONS, Sections, Symbolizer};

/// Where debug sections are, and what was made of them.
#[derive(Default)]
pub(crate) struct DebugInfo {
    /// Byte range of the code section's contents: addresses in debug sections are relative to its start.
    pub code: Range<usize>,
    /// Byte range of the contents of each of [`SECTIONS`]; empty for one that is not there.
    sections: [Range<usize>; SECTIONS.len()],
    pub demangler: Demangler,
    /// Made when a symbol is first asked for.
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    symbolizer: Symbolizer,
    /// Copies of the sections, if the module is in a file.
    copies: Option<[Box<[u8]>; SECTIONS.len()]>,
}

impl DebugInfo {
    /// Notes a custom section, if it is one of those that are read.
    pub fn add(&mut self, name: &str, contents: Range<usize>) {
        if let Some(at) = SECTIONS.iter().position(|section| *section == name) {
            self.sections[at] = contents;
        }
    }

    fn load(&self, source: &ModuleSource) -> Loaded {
        let copies = match source {
            ModuleSource::Memory(_) => None,
            // Sections that can't be read any more are left out, and all if they are too long.
            ModuleSource::File(_) => {
                let are_small = self.sections.iter().map(ExactSizeIterator::len).sum::<usize>() <= MAX_BYTES;
                Some(array::from_fn(|at| {
                    let bytes = are_small.then(|| source.read(self.sections[at].clone()).ok()).flatten();
                    bytes.map_or(Box::default(), |bytes| bytes.into_owned().into())
                }))
            }
        };
        let sections = self.contents(source, copies.as_ref());
        Loaded { symbolizer: Symbolizer::new(&sections, self.code.len() as u32), copies }
    }

    fn contents<'a>(&self, source: &'a ModuleSource, copies: Option<&'a [Box<[u8]>; SECTIONS.len()]>) -> Sections<'a> {
        array::from_fn(|at| match (copies, source) {
            (Some(copies), _) => &*copies[at],
            (None, ModuleSource::Memory(bytes)) => &bytes[self.sections[at].clone()],
            (None, ModuleSource::File(_)) => &[],
        })
    }
}

impl ModuleFacts {
    /// What debug sections say of the instruction at a byte offset in a function of the module: the functions there, innermost first,
    /// and each but the last is inlined into the next. Empty if they say nothing.
    pub fn symbols(&self, func: u32, offset: usize) -> Vec<FrameSymbol> {
        let [info, ..] = &self.debug.sections;
        if info.is_empty() || !self.debug.code.contains(&offset) {
            return Vec::new();
        }
        let loaded = self.debug.loaded.get_or_init(|| self.debug.load(&self.source));
        let sections = self.debug.contents(&self.source, loaded.copies.as_ref());
        let address = (offset - self.debug.code.start) as u32;
        let mut symbols = loaded.symbolizer.symbols(&sections, address, &self.debug.demangler);
        // Line tables alone have names without paths, or none.
        if let Some(last) = symbols.last_mut()
            && last.linkage_name == last.name
            && let Some(name) = self.func_name(func)
            && let Some(shown) =
                self.debug.demangler.demangle(name).or_else(|| last.name.is_none().then(|| name.into()))
        {
            last.name = Some(shown.into());
            last.linkage_name = Some(name.into());
        }
        symbols
    }

    /// [`symbols`](Self::symbols), or else the function's name. Empty if the offset is in no function.
    pub fn symbolize(&self, offset: usize) -> Vec<FrameSymbol> {
        let Some(func) = self.func_at(offset) else { return Vec::new() };
        let mut symbols = self.symbols(func, offset);
        if symbols.is_empty() {
            let linkage_name = self.func_name(func).map(Arc::from);
            let demangled = self.func_name(func).and_then(|name| self.debug.demangler.demangle(name));
            let name = demangled.map(Arc::from).or_else(|| linkage_name.clone());
            symbols.push(FrameSymbol { name, linkage_name, ..FrameSymbol::default() });
        }
        symbols
    }

    /// The index of the function whose body has this byte offset in the module.
    fn func_at(&self, offset: usize) -> Option<u32> {
        let after = self.bodies.partition_point(|body| body.start <= offset);
        let defined = after.checked_sub(1).filter(|defined| self.bodies[*defined].contains(&offset))?;
        Some(self.imported_funcs() + defined as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::source::FileSource;

    /// Of a file, sections are copied: not those of which a symbolizer would read nothing.
    #[test]
    fn sections_that_are_too_long_together_are_not_read() {
        let file = tempfile::tempfile().unwrap();
        // All of it is a hole.
        let len = 2 * MAX_BYTES;
        file.set_len(len as u64).unwrap();
        let metadata = file.metadata().unwrap();
        let source = ModuleSource::File(FileSource::new(file, &metadata, len));
        let copied = |each: usize| {
            let mut debug = DebugInfo::default();
            SECTIONS[..3].iter().for_each(|name| debug.add(name, 0..each));
            debug.load(&source).copies.unwrap().iter().map(|copy| copy.len()).sum::<usize>()
        };
        assert_eq!(copied(1000), 3000);
        assert_eq!(copied(MAX_BYTES / 3 + 1), 0);
    }
}
