//! The WebAssembly proposals that can be turned on and off, and those that are not supported.

use wasmparser::WasmFeatures;

/// A proposal, with a method of [`Config`](super::Config) that turns it on and off.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// As in the proposals repository.
    pub name: &'static str,
    /// The method.
    pub switch: &'static str,
    features: WasmFeatures,
    /// The proposal that it builds on.
    needs: Option<&'static str>,
    pub is_supported: bool,
}

const fn supported(
    name: &'static str,
    switch: &'static str,
    features: WasmFeatures,
    needs: Option<&'static str>,
) -> Proposal {
    Proposal { name, switch, features, needs, is_supported: true }
}

const fn unsupported(
    name: &'static str,
    switch: &'static str,
    features: WasmFeatures,
    needs: Option<&'static str>,
) -> Proposal {
    Proposal { is_supported: false, ..supported(name, switch, features, needs) }
}

/// All proposals with a switch; a proposal comes after the one that it needs.
pub(crate) const PROPOSALS: &[Proposal] = &[
    supported("bulk-memory-operations", "wasm_bulk_memory", WasmFeatures::BULK_MEMORY, None),
    supported("reference-types", "wasm_reference_types", WasmFeatures::REFERENCE_TYPES, Some("bulk-memory-operations")),
    supported("multi-value", "wasm_multi_value", WasmFeatures::MULTI_VALUE, None),
    supported("simd", "wasm_simd", WasmFeatures::SIMD, None),
    supported("relaxed-simd", "wasm_relaxed_simd", WasmFeatures::RELAXED_SIMD, Some("simd")),
    supported("tail-call", "wasm_tail_call", WasmFeatures::TAIL_CALL, None),
    supported("extended-const", "wasm_extended_const", WasmFeatures::EXTENDED_CONST, None),
    supported("multi-memory", "wasm_multi_memory", WasmFeatures::MULTI_MEMORY, None),
    supported("exception-handling", "wasm_exceptions", WasmFeatures::EXCEPTIONS, Some("reference-types")),
    supported("wide-arithmetic", "wasm_wide_arithmetic", WasmFeatures::WIDE_ARITHMETIC, None),
    supported("threads", "wasm_threads", WasmFeatures::THREADS, None),
    supported("legacy-exceptions", "wasm_legacy_exceptions", WasmFeatures::LEGACY_EXCEPTIONS, None),
    supported("memory64", "wasm_memory64", WasmFeatures::MEMORY64, None),
    supported(
        "function-references",
        "wasm_function_references",
        WasmFeatures::FUNCTION_REFERENCES,
        Some("reference-types"),
    ),
    supported("gc", "wasm_gc", WasmFeatures::GC, Some("function-references")),
    supported("custom-page-sizes", "wasm_custom_page_sizes", WasmFeatures::CUSTOM_PAGE_SIZES, None),
    supported("compact-import-section", "wasm_compact_imports", WasmFeatures::COMPACT_IMPORTS, None),
    unsupported("stack-switching", "wasm_stack_switching", WasmFeatures::STACK_SWITCHING, None),
    unsupported(
        "shared-everything-threads",
        "wasm_shared_everything_threads",
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        Some("threads"),
    ),
    unsupported("component-model", "wasm_component_model", WasmFeatures::COMPONENT_MODEL, None),
];

/// WebAssembly 2.0 with the other supported proposals.
pub(crate) const SUPPORTED: WasmFeatures = {
    let (mut features, mut at) = (WasmFeatures::WASM2, 0);
    while at < PROPOSALS.len() {
        if PROPOSALS[at].is_supported {
            features = features.union(PROPOSALS[at].features);
        }
        at += 1;
    }
    features
};

impl Proposal {
    /// The proposal with this name.
    pub fn of_name(name: &str) -> Option<&'static Proposal> {
        PROPOSALS.iter().find(|proposal| proposal.name == name)
    }

    /// The proposal with this switch.
    pub fn of_switch(switch: &str) -> &'static Proposal {
        PROPOSALS.iter().find(|proposal| proposal.switch == switch).expect("each switch has a proposal")
    }

    pub fn is_on(&self, features: WasmFeatures) -> bool {
        features.contains(self.features)
    }

    /// The features with this proposal turned on or off.
    pub fn set(&self, features: WasmFeatures, on: bool) -> WasmFeatures {
        if on { features.union(self.features) } else { features.difference(self.features) }
    }

    /// The features with this proposal, and all that it needs, turned on.
    pub fn add_to(&self, features: WasmFeatures) -> WasmFeatures {
        let features = self.needed().map_or(features, |needed| needed.add_to(features));
        self.set(features, true)
    }

    /// The proposal that it builds on.
    pub fn needed(&self) -> Option<&'static Proposal> {
        self.needs.and_then(Self::of_name)
    }
}

/// Checks that all proposals that are on are supported, and so is what they need.
///
/// # Errors
/// A message for the user.
pub(crate) fn check(features: WasmFeatures) -> Result<(), String> {
    for proposal in PROPOSALS.iter().filter(|proposal| proposal.is_on(features)) {
        let Proposal { name, switch, .. } = proposal;
        if !proposal.is_supported {
            return Err(format!("the {name} proposal is not supported: leave `Config::{switch}` off"));
        }
        if let Some(needed) = proposal.needed()
            && !needed.is_on(features)
        {
            let (other, other_switch) = (needed.name, needed.switch);
            return Err(format!(
                "the {name} proposal needs the {other} proposal: turn `Config::{switch}` off too, or \
                 `Config::{other_switch}` on"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_comes_after_what_it_needs() {
        for (at, proposal) in PROPOSALS.iter().enumerate() {
            let Some(name) = proposal.needs else { continue };
            assert!(PROPOSALS[..at].iter().any(|before| before.name == name), "{}", proposal.name);
        }
    }
}
