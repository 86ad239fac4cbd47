//! Whether a module could do without a proposal that it uses.

use wasmparser::MemoryType;

use super::features::{Place, Uses};
use super::reach::Reach;
use super::survey::Survey;
use crate::cli::output::bytes;

/// How much of a module uses a proposal, and whether it could do without.
pub(super) struct Need {
    /// How many functions use it, and how many of them can be reached from outside.
    pub funcs: usize,
    pub reachable_funcs: usize,
    /// Why the module could do without, if it could: what it uses is never reached, or something older would do.
    pub dispensable: Option<String>,
}

impl Need {
    pub fn new(survey: &Survey<'_>, reach: &Reach, proposal: &str, uses: &Uses) -> Self {
        let funcs =
            uses.places.iter().filter_map(|place| if let Place::Func(func) = place { Some(*func) } else { None });
        let (funcs, reachable_funcs) = (funcs.clone().count(), funcs.filter(|func| reach.has_func(*func)).count());
        let is_used = uses.places.iter().any(|place| match place {
            Place::Func(func) => reach.has_func(*func),
            Place::Type(ty) => reach.has_type(*ty),
            Place::Module | Place::Table(_) | Place::Memory(_) => true,
        });
        let dispensable = match is_used {
            true => substitute(survey, reach, proposal, uses),
            false => Some("nothing that can be reached uses it".into()),
        };
        Need { funcs, reachable_funcs, dispensable }
    }
}

/// What would do in place of a proposal.
fn substitute(survey: &Survey<'_>, reach: &Reach, proposal: &str, uses: &Uses) -> Option<String> {
    match proposal {
        "memory64" => {
            let mut most = 0;
            for place in &uses.places {
                most = most.max(match place {
                    Place::Memory(memory) => {
                        let ty = survey.memories.get(*memory as usize)?;
                        ty.maximum?.saturating_mul(page_bytes(ty)?)
                    }
                    Place::Table(table) => survey.tables.get(*table as usize)?.maximum?,
                    _ => continue,
                });
            }
            let is_memory = uses.places.iter().any(|place| matches!(place, Place::Memory(_)));
            let what = if is_memory { bytes(most) } else { format!("{most} elements") };
            (most <= 1 << 32).then(|| format!("at most {what}: 32-bit addresses would do"))
        }
        "custom-page-sizes" => {
            let is_whole = |ty: &MemoryType| {
                let size = page_bytes(ty).and_then(|page| page.checked_mul(ty.initial));
                ty.maximum == Some(ty.initial) && size.is_some_and(|size| size.is_multiple_of(64 << 10))
            };
            let mut custom = survey.memories.iter().filter(|ty| ty.page_size_log2.is_some());
            custom
                .all(is_whole)
                .then(|| "a size that never changes and is whole pages of 64 KiB: these would do".into())
        }
        "threads" if !survey.memories.iter().any(|ty| ty.shared) => {
            Some("no memory is shared: instructions that are not atomic would do".into())
        }
        "exception-handling" if !survey.throwing.iter().any(|func| reach.has_func(*func)) => {
            Some(match survey.imported_funcs {
                0 => "nothing that can be reached throws".into(),
                _ => "nothing that can be reached throws, unless an imported function does".into(),
            })
        }
        _ => None,
    }
}

fn page_bytes(ty: &MemoryType) -> Option<u64> {
    1u64.checked_shl(ty.page_size_log2.unwrap_or(16))
}
