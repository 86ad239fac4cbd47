//! Keys of the cache: hashes of everything that compiled code depends on.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::Discriminant;

use wasmparser::WasmFeatures;

use crate::config::proposals::{PROPOSALS, Proposal};
use crate::module::ModuleFacts;
use crate::module::composite::{CompositeType, FieldType, StorageType};
use crate::module::registry::RegisteredType;
use crate::module::types::{HeapType, Mutability, RefType, ValType};

/// Version of the files' layout.
pub(super) const FORMAT: u32 = 1;

/// The version of this crate, with a hash of its sources.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("WASMRUN_SOURCES"));

/// Hash of everything that the code of a module depends on except the bodies of its functions: the compiler, its
/// settings, and the module's declarations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModuleKey(pub [u8; 32]);

impl ModuleKey {
    /// The key of a module whose code is compiled with these settings.
    pub fn of(settings: &Settings, module: &ModuleFacts) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(settings.to_text().as_bytes());
        environment(module, &mut hasher);
        ModuleKey(hasher.finalize().into())
    }
}

impl fmt::Display for ModuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 160 bits: the file itself holds the whole key.
        self.0[..20].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The line of settings with which code consumes fuel.
const FUEL: &str = "fuel";

/// The compiler and its settings, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub version: String,
    pub target: String,
    /// Features of the processor that code may use.
    pub features: Vec<String>,
    pub checks: String,
    /// Whether code consumes fuel.
    pub fuel: bool,
    /// The WebAssembly proposals that modules may use.
    pub proposals: Vec<String>,
    /// Cranelift's version, and those of its settings that no option of wasmrun changes.
    pub compiler: String,
}

impl Settings {
    /// The proposals that are turned on.
    pub fn proposals_on(features: WasmFeatures) -> Vec<String> {
        PROPOSALS.iter().filter(|proposal| proposal.is_on(features)).map(|proposal| proposal.name.into()).collect()
    }

    /// As text: a line for each field, several for the last one.
    pub fn to_text(&self) -> String {
        let Settings { version, target, features, checks, fuel, proposals, compiler } = self;
        let fuel = if *fuel { FUEL } else { "" };
        let (features, proposals) = (features.join(" "), proposals.join(" "));
        format!("{version}\n{target}\n{features}\n{checks}\n{fuel}\n{proposals}\n{compiler}\0")
    }

    /// Reads what [`Settings::to_text`] wrote; anything after it is ignored.
    pub fn from_text(text: &str) -> Option<Self> {
        let (text, _) = text.split_once('\0')?;
        let mut lines = text.splitn(7, '\n').map(str::to_string);
        let (version, target) = (lines.next()?, lines.next()?);
        let words = |line: String| line.split_whitespace().map(str::to_string).collect();
        let features = words(lines.next()?);
        let (checks, fuel, proposals) = (lines.next()?, lines.next()? == FUEL, words(lines.next()?));
        Some(Settings { version, target, features, checks, fuel, proposals, compiler: lines.next()? })
    }

    /// Checks that code with these settings can run where code with the settings `here` can. It need not use all
    /// features of the processor.
    ///
    /// # Errors
    /// The first difference, as a text for the user.
    pub fn fits(&self, here: &Self) -> Result<(), String> {
        let differs = |what: &str, found: &str, expected: &str| {
            Err(format!("it was compiled for {what} {found}, and this is {expected}: compile it again"))
        };
        if self.version != here.version {
            return differs("wasmrun", &self.version, &here.version);
        }
        if self.target != here.target {
            return differs("the target", &self.target, &here.target);
        }
        let missing: Vec<&str> =
            self.features.iter().filter(|feature| !here.features.contains(feature)).map(String::as_str).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!(
                "it was compiled for a processor with {missing}, and this one has none of it: compile it again"
            ));
        }
        if self.checks != here.checks {
            return differs("--bounds-checks", &self.checks, &here.checks);
        }
        match (self.fuel, here.fuel) {
            (false, true) => {
                return Err(
                    "it was compiled without fuel, which is to be consumed here: compile it again, with --fuel".into(),
                );
            }
            (true, false) => {
                return Err("it was compiled to consume fuel, which is not given here: run it with --fuel=N".into());
            }
            _ => {}
        }
        if let Some(name) = self.proposals.iter().find(|name| !here.proposals.contains(name)) {
            let switch = Proposal::of_name(name).map_or("Config", |proposal| proposal.switch);
            return Err(format!(
                "it was compiled with the {name} proposal, which is turned off here: compile it again with \
                 `Config::{switch}` off"
            ));
        }
        if self.compiler != here.compiler {
            return Err("it was compiled with other settings of the compiler: compile it again".into());
        }
        Ok(())
    }
}

/// Hashes everything that validating and compiling a body may read of its module. The decoded module is hashed, not its
/// file, which may have changed.
fn environment(module: &ModuleFacts, hasher: &mut blake3::Hasher) {
    let mut to = Feed(hasher);
    let types = TypeIndices::new(module);
    types.hash_types(module, &mut to);
    // Their types are in the index spaces.
    for import in &module.imports {
        (&import.module, &import.name, std::mem::discriminant(&import.ty)).hash(&mut to);
    }
    module.exports.hash(&mut to);
    module.funcs.hash(&mut to);
    for table in &module.tables {
        (types.reference(&table.element), table.minimum, table.maximum, table.is_64()).hash(&mut to);
    }
    module.memories.hash(&mut to);
    for global in &module.globals {
        (types.value(&global.content), global.mutability).hash(&mut to);
    }
    module.tags.hash(&mut to);
    module.table_inits.hash(&mut to);
    module.global_inits.hash(&mut to);
    module.elements.hash(&mut to);
    // A body can only name data segments by their index.
    module.data.len().hash(&mut to);
    // The size of the code, so that another build of a program gets a folder of its own: few of its functions would be
    // the same.
    module.bodies.iter().map(ExactSizeIterator::len).sum::<usize>().hash(&mut to);
}

/// Names the types of a module by their type indices: an engine's numbers of them are other ones in another process.
struct TypeIndices(HashMap<RegisteredType, u32>);

/// A value type that can be hashed.
#[derive(Hash)]
enum PortableType<'a> {
    Val(&'a ValType),
    Abstract(&'a RefType),
    /// Of a defined type, by type index.
    Concrete {
        nullable: bool,
        index: u32,
    },
}

impl TypeIndices {
    fn new(module: &ModuleFacts) -> Self {
        // Of equal types, the last.
        TypeIndices(module.sigs.iter().cloned().zip(0..).collect())
    }

    fn index(&self, ty: &RegisteredType) -> u32 {
        *self.0.get(ty).expect("a module can only name types that it declares")
    }

    fn reference<'a>(&self, ty: &'a RefType) -> PortableType<'a> {
        match ty.heap_type() {
            HeapType::Concrete(named) => {
                PortableType::Concrete { nullable: ty.is_nullable(), index: self.index(named) }
            }
            _ => PortableType::Abstract(ty),
        }
    }

    fn value<'a>(&self, ty: &'a ValType) -> PortableType<'a> {
        match ty {
            ValType::Ref(reference) => self.reference(reference),
            _ => PortableType::Val(ty),
        }
    }

    fn values<'a>(&self, types: &'a [ValType]) -> Vec<PortableType<'a>> {
        types.iter().map(|ty| self.value(ty)).collect()
    }

    /// Of each field, whether it can be set, the kind of storage, and the type of its values.
    fn fields<'a>(&self, fields: &'a [FieldType]) -> Vec<(Mutability, Discriminant<StorageType>, PortableType<'a>)> {
        let field = |field: &'a FieldType| {
            let storage = field.element_type();
            (field.mutability(), std::mem::discriminant(storage), self.value(storage.unpack()))
        };
        fields.iter().map(field).collect()
    }

    /// Hashes the types of the module.
    fn hash_types(&self, module: &ModuleFacts, to: &mut impl Hasher) {
        for (ty, sig) in module.types.iter().zip(&module.sigs) {
            (sig.index_in_group(), sig.is_final(), sig.supertype().map(|ty| self.index(&ty))).hash(to);
            match ty {
                CompositeType::Func(ty) => (0, self.values(ty.params()), self.values(ty.results())).hash(to),
                CompositeType::Struct(ty) => (1, self.fields(ty.field_types())).hash(to),
                CompositeType::Array(ty) => (2, self.fields(std::slice::from_ref(ty.element()))).hash(to),
            }
        }
    }
}

/// A standard library [`Hasher`] that feeds a cryptographic hash. Another version of Rust may feed other bytes: the key
/// is another one then.
struct Feed<'a>(&'a mut blake3::Hasher);

impl Hasher for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken from the inner hasher")
    }
}

/// Hash of a function's body: the code of a function depends on this and its module's key.
pub(crate) fn body_hash(body: &[u8]) -> [u8; 32] {
    blake3::hash(body).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::decode;
    use crate::{BoundsChecks, Config, Engine, Module};

    fn key_of(module: &Module) -> ModuleKey {
        ModuleKey::of(&module.engine().cache_settings(), &module.0.facts)
    }

    #[test]
    fn the_environment_counts_and_bodies_do_not() {
        let key = |text: &str, checks| {
            let engine = Engine::new(Config::new().bounds_checks(checks)).unwrap();
            key_of(&Module::new(&engine, text).unwrap()).to_string()
        };
        let base = key("(module (memory 1) (func (result i32) (i32.const 1)))", BoundsChecks::Inline);
        let same = "(module $named (memory 1) (func (result i32) (i32.const 2)))";
        assert_eq!(base, key(same, BoundsChecks::Inline));
        assert_ne!(base, key(same, BoundsChecks::Guard));
        for other in [
            "(module (memory 2) (func (result i32) (i32.const 1)))",
            "(module (memory 1) (func (result f32) (f32.const 1)))",
            "(module (memory 1) (func (result i32) (i32.const 1)) (func))",
        ] {
            assert_ne!(base, key(other, BoundsChecks::Inline), "{other}");
        }
    }

    #[test]
    fn the_proposals_count() {
        let key = |config: &mut Config| {
            key_of(&Module::new(&Engine::new(config).unwrap(), "(module (func))").unwrap()).to_string()
        };
        assert_eq!(key(&mut Config::new()), key(Config::new().wasm_stack_switching(false)));
        assert_ne!(key(&mut Config::new()), key(Config::new().wasm_tail_call(false)));
    }

    /// Each kind of declaration changes the key, if nothing else differs.
    #[test]
    fn all_that_is_declared_counts() {
        let key = |text: &str| key_of(&Module::new(&Engine::default(), text).unwrap()).to_string();
        let types = "(type (func)) (type (func (param i32)))";
        for (one, other) in [
            ("(type (func))", "(type (func)) (type (func (param i64)))"),
            (r#"(import "a" "b" (func))"#, r#"(import "a" "c" (func))"#),
            (r#"(func) (export "a" (func 0))"#, r#"(func) (export "b" (func 0))"#),
            (&*format!("{types} (func (type 0))"), &*format!("{types} (func (type 1))")),
            ("(table 1 funcref)", "(table 2 funcref)"),
            ("(memory 1)", "(memory 1 2)"),
            ("(global i32 (i32.const 0))", "(global (mut i32) (i32.const 0))"),
            ("(global i32 (i32.const 0))", "(global i32 (i32.const 1))"),
            (&*format!("{types} (tag (type 0))"), &*format!("{types} (tag (type 1))")),
            ("(func) (elem func 0)", "(func) (elem func 0 0)"),
            (r#"(data "")"#, r#"(data "") (data "")"#),
            ("(func nop)", "(func nop nop)"),
        ] {
            let [one, other] = [one, other].map(|text| format!("(module {text})"));
            assert_ne!(key(&one), key(&other), "{one} {other}");
        }
    }

    /// The key of a module with the types of WebAssembly 3.0, in an engine that knew `before` other types.
    fn key_with_gc(before: usize, text: &str) -> String {
        let engine = Engine::default();
        let mut config = engine.core().config.clone();
        config.features |= WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::GC;
        let _kept: Vec<_> = (0..before)
            .map(|params| engine.register_type(&crate::FuncType::of(vec![ValType::F32; params + 9], [])))
            .collect();
        let binary = decode::text(format!("(module {text})").as_bytes()).unwrap();
        let facts = decode::binary(&config, &engine.core().types, binary.into()).unwrap();
        ModuleKey::of(&engine.cache_settings(), &facts).to_string()
    }

    #[test]
    fn defined_types_count_but_their_numbers_do_not() {
        let types = "(type $s (sub (struct (field i32 (ref null $s))))) (type $f (func (param (ref $s))))";
        let uses = "(table 1 (ref null $f)) (global (ref null $s) (ref.null $s)) (func (type $f))";
        let base = key_with_gc(0, &format!("{types} {uses}"));
        assert_eq!(base, key_with_gc(3, &format!("{types} {uses}")));
        for (old, new) in [
            ("(sub (struct", "(sub final (struct"),
            ("(field i32 ", "(field i64 "),
            ("(field i32 ", "(field i8 "),
            ("(field i32 ", "(field i16 "),
            ("(field i32 ", "(field (mut i32) "),
            ("(ref null $s)))))", "(ref $s)))))"),
            ("(param (ref $s))", "(param (ref null $s))"),
            ("(table 1 (ref null $f))", "(table 1 (ref null $s))"),
            ("(global (ref null $s) (ref.null $s))", "(global (ref null $f) (ref.null $f))"),
            ("(struct (field i32 (ref null $s)))", "(array (ref null $s))"),
        ] {
            let text = format!("{types} {uses}");
            let other = text.replace(old, new);
            assert_ne!(text, other, "{old}");
            assert_ne!(base, key_with_gc(0, &other), "{new}");
        }
        let alone = "(type (sub (struct))) (type (sub (struct)))";
        for other in
            ["(rec (type (sub (struct))) (type (sub (struct))))", "(type (sub (struct))) (type (sub 0 (struct)))"]
        {
            assert_ne!(key_with_gc(0, alone), key_with_gc(0, other));
        }
    }
}
