//! Names of functions and tags for messages and backtraces, read on first use.

use std::collections::HashMap;

use wasmparser::{BinaryReader, Name, NameMap, NameSectionReader};

use super::{ExternIndex, ModuleFacts};
use crate::module::types::ExternType;

/// Names by index. Of a damaged name section, the names before the damage are read.
#[derive(Debug, Default)]
pub(crate) struct Names {
    funcs: HashMap<u32, Box<str>>,
    tags: HashMap<u32, Box<str>>,
    module: Option<Box<str>>,
}

impl Names {
    /// The names of a module's functions and tags: from the name section, or else those of their imports and exports.
    pub fn read(module: &ModuleFacts) -> Self {
        let mut names = Names::default();
        for export in &module.exports {
            let (names, index) = match export.index {
                ExternIndex::Func(func) => (&mut names.funcs, func),
                ExternIndex::Tag(tag) => (&mut names.tags, tag),
                _ => continue,
            };
            names.entry(index).or_insert_with(|| export.name.clone());
        }
        let imports = |is: fn(&ExternType) -> bool| {
            let imports = (0..).zip(module.imports.iter().filter(move |import| is(&import.ty)));
            imports.map(|(index, import)| (index, format!("{}.{}", import.module, import.name).into()))
        };
        names.funcs.extend(imports(|ty| matches!(ty, ExternType::Func(_))));
        names.tags.extend(imports(|ty| matches!(ty, ExternType::Tag(_))));
        if let Some(range) = module.name_section.clone()
            && let Ok(section) = module.source.read(range.clone())
        {
            names.read_section(&section, range.start as u64);
        }
        names
    }

    /// Only the names of a name section.
    pub fn of_section(bytes: &[u8], offset: u64) -> Self {
        let mut names = Names::default();
        names.read_section(bytes, offset);
        names
    }

    fn read_section(&mut self, bytes: &[u8], offset: u64) {
        for subsection in NameSectionReader::new(BinaryReader::new(bytes, offset)).map_while(Result::ok) {
            match subsection {
                Name::Module { name, .. } => self.module = Some(name.into()),
                Name::Function(map) => add(&mut self.funcs, map),
                Name::Tag(map) => add(&mut self.tags, map),
                _ => {}
            }
        }
    }

    pub fn func(&self, func: u32) -> Option<&str> {
        self.funcs.get(&func).map(|name| &**name)
    }

    pub fn tag(&self, tag: u32) -> Option<&str> {
        self.tags.get(&tag).map(|name| &**name)
    }

    pub fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }
}

/// Adds the names of a subsection, up to the first damage.
fn add(names: &mut HashMap<u32, Box<str>>, map: NameMap<'_>) {
    names.extend(map.into_iter().map_while(Result::ok).map(|naming| (naming.index, naming.name.into())));
}
