//! Names of functions for messages and backtraces, read when first asked for.

use std::collections::HashMap;

use wasmparser::{BinaryReader, Name, NameSectionReader};

use super::{ExternIndex, ModuleInner};
use crate::module::types::ExternType;

/// Function names by function index. A damaged name section gives the names before the damage.
#[derive(Debug, Default)]
pub(crate) struct Names {
    funcs: HashMap<u32, Box<str>>,
    module: Option<Box<str>>,
}

impl Names {
    /// The names a module gives, of functions without one those of their import or export.
    pub fn read(module: &ModuleInner) -> Self {
        let mut names = Names::default();
        for export in &module.exports {
            if let ExternIndex::Func(func) = export.index {
                names.funcs.entry(func).or_insert_with(|| export.name.clone());
            }
        }
        let imports = module.imports.iter().filter(|import| matches!(import.ty, ExternType::Func(_)));
        for (func, import) in imports.enumerate() {
            names.funcs.insert(func as u32, format!("{}.{}", import.module, import.name).into());
        }
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
                Name::Function(map) => {
                    for naming in map.into_iter().map_while(Result::ok) {
                        self.funcs.insert(naming.index, naming.name.into());
                    }
                }
                _ => {}
            }
        }
    }

    pub fn func(&self, func: u32) -> Option<&str> {
        self.funcs.get(&func).map(|name| &**name)
    }

    pub fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }
}
