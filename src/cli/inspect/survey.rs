//! The facts a binary module states about itself, read section by section.

use std::collections::{BTreeMap, HashMap};

use wasmparser::{
    CompositeInnerType, CompositeType, ConstExpr, ElementItems, ElementKind, ExternalKind, FieldType, FuncType,
    KnownCustom, MemoryType, Name, Operator, Parser, Payload, Result, TableInit, TableType, TypeRef, ValType,
};

use super::features::{self, Features, Place};
use super::reach::{Links, Named, Reach};
use crate::printable::Printable;

/// The facts of a module that a report shows.
#[derive(Default)]
pub(super) struct Survey<'a> {
    pub size: u64,
    /// Name, bytes and items of each section, in the order of the file.
    pub sections: Vec<(String, u64, Option<u32>)>,
    /// Module, name and type.
    pub imports: Vec<(&'a str, &'a str, String)>,
    /// Name and type.
    pub exports: Vec<(&'a str, String)>,
    /// Types of all memories, tables and functions, imported ones first, and how many of each are imported.
    pub memories: Vec<MemoryType>,
    pub imported_memories: usize,
    pub tables: Vec<TableType>,
    pub imported_tables: usize,
    pub funcs: Vec<u32>,
    pub imported_funcs: usize,
    pub globals: usize,
    pub imported_globals: usize,
    pub start: Option<u32>,
    /// Bytes of the body of each function defined in the module.
    pub bodies: Vec<u64>,
    pub data_segments: u32,
    pub data_bytes: u64,
    pub element_segments: u32,
    pub elements: u64,
    /// Name and bytes.
    pub customs: Vec<(&'a str, u64)>,
    /// Field and its values: `processed-by`, `clang 21.1`.
    pub producers: Vec<(&'a str, Vec<String>)>,
    pub func_names: HashMap<u32, &'a str>,
    pub memory_names: HashMap<u32, &'a str>,
    pub table_names: HashMap<u32, &'a str>,
    pub global_names: HashMap<u32, &'a str>,
    pub tag_names: HashMap<u32, &'a str>,
    pub type_names: HashMap<u32, &'a str>,
    /// By type.
    pub field_names: HashMap<u32, HashMap<u32, &'a str>>,
    pub features: Features,
    pub links: Links,
    /// Functions that throw.
    pub throwing: Vec<u32>,
    pub types: Vec<CompositeType>,
    pub global_types: Vec<String>,
    pub tags: Vec<u32>,
    pub imported_tags: usize,
}

impl<'a> Survey<'a> {
    /// Reads a binary module.
    pub fn new(module: &'a [u8]) -> Result<Self> {
        let mut survey = Survey { size: module.len() as u64, ..Survey::default() };
        for payload in Parser::new(0).parse_all(module) {
            survey.payload(payload?)?;
        }
        Ok(survey)
    }

    fn payload(&mut self, payload: Payload<'a>) -> Result<()> {
        if let Some((id, range)) = payload.as_section() {
            self.sections.push((section_name(id).into(), range.end - range.start, None));
        }
        match payload {
            Payload::TypeSection(reader) => {
                self.count(reader.count());
                for group in reader {
                    for ty in group?.into_types() {
                        let index = self.types.len() as u32;
                        self.features.place = Place::Type(index);
                        self.links.ty(index, &ty);
                        features::composite_type(&mut self.features, &ty.composite_type);
                        self.types.push(ty.composite_type);
                    }
                }
            }
            Payload::ImportSection(reader) => {
                self.count(reader.count());
                for import in reader.into_imports() {
                    let import = import?;
                    self.features.place = Place::Module;
                    self.import(import.ty);
                    let ty = self.type_ref(import.ty);
                    self.imports.push((import.module, import.name, ty));
                }
            }
            Payload::FunctionSection(reader) => {
                self.count(reader.count());
                for ty in reader {
                    self.funcs.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                self.count(reader.count());
                for table in reader {
                    let table = table?;
                    features::table(&mut self.features, &table.ty, self.tables.len());
                    if let TableInit::Expr(init) = table.init {
                        self.features.add("function-references", "table with an initial value");
                        self.links.constant(&init)?;
                        self.constant(&init)?;
                    }
                    self.links.reference(table.ty.element_type);
                    self.tables.push(table.ty);
                }
            }
            Payload::MemorySection(reader) => {
                self.count(reader.count());
                for memory in reader {
                    let memory = memory?;
                    features::memory(&mut self.features, &memory, self.memories.len());
                    self.memories.push(memory);
                }
            }
            Payload::TagSection(reader) => {
                self.count(reader.count());
                self.features.place = Place::Module;
                self.features.add("exception-handling", "tag");
                for tag in reader {
                    self.tag(tag?.func_type_idx);
                }
            }
            Payload::GlobalSection(reader) => {
                self.count(reader.count());
                self.features.place = Place::Module;
                for global in reader {
                    let global = global?;
                    self.links.declaration(global.ty.content_type);
                    self.links.constant(&global.init_expr)?;
                    features::value_type(&mut self.features, global.ty.content_type);
                    self.constant(&global.init_expr)?;
                    self.global_types.push(global_type(&global.ty));
                    self.globals += 1;
                }
            }
            Payload::ExportSection(reader) => {
                self.count(reader.count());
                self.features.place = Place::Module;
                for export in reader {
                    let export = export?;
                    if let ExternalKind::Func | ExternalKind::FuncExact = export.kind {
                        self.links.root(Named::Func(export.index));
                    }
                    let ty = self.export_type(export.kind, export.index);
                    if ty.starts_with("(global (mut") {
                        self.features.add("mutable-global", "exported");
                    }
                    self.exports.push((export.name, ty));
                }
            }
            Payload::StartSection { func, .. } => {
                self.start = Some(func);
                self.links.root(Named::Func(func));
            }
            Payload::ElementSection(reader) => {
                self.count(reader.count());
                self.features.place = Place::Module;
                for element in reader {
                    let element = element?;
                    self.element_segments += 1;
                    // A declared segment only says that code takes references to its functions.
                    let is_declared = matches!(element.kind, ElementKind::Declared);
                    match element.items {
                        ElementItems::Functions(items) => {
                            self.elements += u64::from(items.count());
                            for func in items {
                                let func = func?;
                                if !is_declared {
                                    self.links.root(Named::Func(func));
                                }
                            }
                        }
                        ElementItems::Expressions(ty, items) => {
                            self.features.add("reference-types", "element expressions");
                            self.elements += u64::from(items.count());
                            self.links.reference(ty);
                            for item in items {
                                let item = item?;
                                if !is_declared {
                                    self.links.constant(&item)?;
                                }
                            }
                        }
                    }
                }
            }
            Payload::DataSection(reader) => {
                self.count(reader.count());
                for data in reader {
                    self.data_segments += 1;
                    self.data_bytes += data?.data.len() as u64;
                }
            }
            Payload::DataCountSection { .. } => {
                self.features.place = Place::Module;
                self.features.add("bulk-memory", "data count");
            }
            Payload::CodeSectionStart { count, .. } => self.count(count),
            Payload::CodeSectionEntry(body) => {
                let func = (self.imported_funcs + self.bodies.len()) as u32;
                self.bodies.push(body.range().end - body.range().start);
                self.features.place = Place::Func(func);
                self.links.begin(func, self.funcs.get(func as usize).copied());
                let mut locals = body.get_locals_reader()?;
                for _ in 0..locals.get_count() {
                    let ty = locals.read()?.1;
                    features::value_type(&mut self.features, ty);
                    self.links.local(ty);
                }
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    let operator = operators.read()?;
                    features::operator(&mut self.features, &operator);
                    self.links.operator(&operator);
                    if let Operator::Throw { .. } | Operator::ThrowRef | Operator::Rethrow { .. } = operator
                        && self.throwing.last() != Some(&func)
                    {
                        self.throwing.push(func);
                    }
                }
            }
            Payload::CustomSection(section) => {
                self.customs.push((section.name(), section.data().len() as u64));
                if let Some((name, ..)) = self.sections.last_mut() {
                    *name = format!("custom {}", section.name());
                }
                // Custom sections are optional: one that can't be read is left out.
                match section.as_known() {
                    KnownCustom::Producers(fields) => {
                        for field in fields.into_iter().flatten() {
                            let values = field.values.into_iter().flatten();
                            let values = values.map(|value| format!("{} {}", value.name, value.version).trim().into());
                            self.producers.push((field.name, values.collect()));
                        }
                    }
                    KnownCustom::Name(subsections) => {
                        for subsection in subsections.into_iter().map_while(Result::ok) {
                            self.names(subsection);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn names(&mut self, subsection: Name<'a>) {
        let (all, names) = match subsection {
            Name::Function(names) => (&mut self.func_names, names),
            Name::Type(names) => (&mut self.type_names, names),
            Name::Table(names) => (&mut self.table_names, names),
            Name::Memory(names) => (&mut self.memory_names, names),
            Name::Global(names) => (&mut self.global_names, names),
            Name::Tag(names) => (&mut self.tag_names, names),
            Name::Field(types) => {
                for of_type in types.into_iter().map_while(Result::ok) {
                    let names = of_type.names.map_while(Result::ok).map(|field| (field.index, field.name));
                    self.field_names.entry(of_type.index).or_default().extend(names);
                }
                return;
            }
            _ => return,
        };
        all.extend(names.map_while(Result::ok).map(|naming| (naming.index, naming.name)));
    }

    fn tag(&mut self, ty: u32) {
        self.links.root(Named::Type(ty));
        self.tags.push(ty);
    }

    /// Notes how many items the section has that was begun last.
    fn count(&mut self, count: u32) {
        if let Some((_, _, items)) = self.sections.last_mut() {
            *items = Some(count);
        }
    }

    fn import(&mut self, ty: TypeRef) {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.links.root(Named::Type(ty));
                self.funcs.push(ty);
                self.imported_funcs += 1;
            }
            TypeRef::Table(ty) => {
                features::table(&mut self.features, &ty, self.tables.len());
                self.links.reference(ty.element_type);
                self.tables.push(ty);
                self.imported_tables += 1;
            }
            TypeRef::Memory(ty) => {
                features::memory(&mut self.features, &ty, self.memories.len());
                self.memories.push(ty);
                self.imported_memories += 1;
            }
            TypeRef::Global(ty) => {
                if ty.mutable {
                    self.features.add("mutable-global", "imported");
                }
                self.links.declaration(ty.content_type);
                features::value_type(&mut self.features, ty.content_type);
                self.global_types.push(global_type(&ty));
                self.globals += 1;
                self.imported_globals += 1;
            }
            TypeRef::Tag(ty) => {
                self.features.add("exception-handling", "tag");
                self.tag(ty.func_type_idx);
                self.imported_tags += 1;
            }
        }
    }

    fn constant(&mut self, expr: &ConstExpr<'_>) -> Result<()> {
        for operator in expr.get_operators_reader() {
            features::constant_operator(&mut self.features, &operator?);
        }
        Ok(())
    }

    fn export_type(&self, kind: ExternalKind, index: u32) -> String {
        let at = index as usize;
        let ty = match kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.funcs.get(at).map(|ty| self.func_type("func", *ty)),
            ExternalKind::Table => self.tables.get(at).map(table_type),
            ExternalKind::Memory => self.memories.get(at).map(memory_type),
            ExternalKind::Global => self.global_types.get(at).cloned(),
            ExternalKind::Tag => self.tags.get(at).map(|ty| self.func_type("tag", *ty)),
        };
        ty.unwrap_or_else(|| "(unknown)".into())
    }

    fn type_ref(&self, ty: TypeRef) -> String {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.func_type("func", ty),
            TypeRef::Table(ty) => table_type(&ty),
            TypeRef::Memory(ty) => memory_type(&ty),
            TypeRef::Global(ty) => global_type(&ty),
            TypeRef::Tag(ty) => self.func_type("tag", ty.func_type_idx),
        }
    }

    pub fn func_type(&self, what: &str, index: u32) -> String {
        match self.types.get(index as usize).map(|ty| &ty.inner) {
            Some(CompositeInnerType::Func(ty)) => signature(what, ty),
            _ => format!("({what} (type {index}))"),
        }
    }

    /// A type in the text format.
    pub fn type_text(ty: &CompositeType) -> String {
        let field = |field: &FieldType| match field.mutable {
            true => format!("(mut {})", field.element_type),
            false => field.element_type.to_string(),
        };
        match &ty.inner {
            CompositeInnerType::Func(ty) => signature("func", ty),
            CompositeInnerType::Array(ty) => format!("(array {})", field(&ty.0)),
            CompositeInnerType::Struct(ty) => {
                format!("(struct{})", ty.fields.iter().map(|ty| format!(" (field {})", field(ty))).collect::<String>())
            }
            CompositeInnerType::Cont(ty) => format!("(cont {})", ty.0),
        }
    }

    /// What can be reached from outside.
    pub fn reach(&self) -> Reach {
        self.links.follow(self.funcs.len(), self.types.len())
    }

    /// The largest functions defined in the module: index and bytes.
    pub fn largest(&self, count: usize) -> Vec<(u32, u64)> {
        let mut bodies: Vec<_> = (self.imported_funcs as u32..).zip(self.bodies.iter().copied()).collect();
        bodies.sort_by_key(|(index, size)| (std::cmp::Reverse(*size), *index));
        bodies.truncate(count);
        bodies
    }

    /// How a function is called in messages.
    pub fn func_name(&self, index: u32) -> String {
        self.func_names
            .get(&index)
            .map_or_else(|| format!("function {index}"), |name| Printable::name(name).to_string())
    }

    /// How many imports there are of each module.
    pub fn imports_by_module(&self) -> BTreeMap<&'a str, Vec<(&'a str, &str)>> {
        let mut modules: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (module, name, ty) in &self.imports {
            modules.entry(*module).or_default().push((*name, ty.as_str()));
        }
        modules
    }
}

fn signature(what: &str, ty: &FuncType) -> String {
    let list = |keyword: &str, types: &[ValType]| match types {
        [] => String::new(),
        types => format!(" ({keyword}{})", types.iter().map(|ty| format!(" {ty}")).collect::<String>()),
    };
    format!("({what}{}{})", list("param", ty.params()), list("result", ty.results()))
}

fn limits(minimum: u64, maximum: Option<u64>) -> String {
    maximum.map_or(minimum.to_string(), |maximum| format!("{minimum} {maximum}"))
}

fn memory_type(ty: &MemoryType) -> String {
    let index = if ty.memory64 { "i64 " } else { "" };
    let shared = if ty.shared { " shared" } else { "" };
    let page = ty.page_size_log2.map_or(String::new(), |log2| format!(" (pagesize {})", 1u64 << log2.min(63)));
    format!("(memory {index}{}{shared}{page})", limits(ty.initial, ty.maximum))
}

fn table_type(ty: &TableType) -> String {
    let index = if ty.table64 { "i64 " } else { "" };
    format!("(table {index}{} {})", limits(ty.initial, ty.maximum), ValType::Ref(ty.element_type))
}

fn global_type(ty: &wasmparser::GlobalType) -> String {
    if ty.mutable { format!("(global (mut {}))", ty.content_type) } else { format!("(global {})", ty.content_type) }
}

fn section_name(id: u8) -> &'static str {
    match id {
        0 => "custom",
        1 => "type",
        2 => "import",
        3 => "function",
        4 => "table",
        5 => "memory",
        6 => "global",
        7 => "export",
        8 => "start",
        9 => "element",
        10 => "code",
        11 => "data",
        12 => "data count",
        13 => "tag",
        _ => "unknown",
    }
}

/// The operators that constant expressions have without the extended-const proposal.
pub(super) fn is_plain_constant(operator: &Operator<'_>) -> bool {
    !matches!(
        operator,
        Operator::I32Add | Operator::I32Sub | Operator::I32Mul | Operator::I64Add | Operator::I64Sub | Operator::I64Mul
    )
}
