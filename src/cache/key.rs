//! Keys of the cache: hashes of everything that compiled code depends on.

use std::fmt;
use std::hash::{Hash, Hasher};

use wasmparser::WasmFeatures;

use crate::config::proposals::{PROPOSALS, Proposal};
use crate::module::ModuleFacts;

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
    module.types.hash(&mut to);
    module.imports.hash(&mut to);
    module.exports.hash(&mut to);
    module.funcs.hash(&mut to);
    module.tables.hash(&mut to);
    module.memories.hash(&mut to);
    module.globals.hash(&mut to);
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
        assert_eq!(key(&mut Config::new()), key(Config::new().wasm_threads(false)));
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
}
