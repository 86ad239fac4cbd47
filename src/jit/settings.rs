//! Tiers and entries of compiled code, and the compiler's settings.

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};

use crate::error::{Error, Result};

/// How well a function is compiled: the higher, the better the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Compiled in as little time as possible.
    Quick = 1,
    /// Compiled with the best settings, but with OSR entries at some loops. These make loops much slower in some
    /// programs: Yosys takes 1.25 times as long.
    BestWithLoops = 2,
    /// Compiled with the best settings and no entry but the start.
    Best = 3,
}

impl Tier {
    /// The tier that has this number in the cache.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Tier::Quick, Tier::BestWithLoops, Tier::Best].into_iter().find(|tier| *tier as u32 == number)
    }
}

/// What the compiler does to a function at the best tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As little as at [`Tier::Quick`]: all else would take more than linear time.
    Least,
    /// It allocates registers well.
    Allocate,
    /// It also optimises.
    Optimise,
}

/// Where code that is compiled from a function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CodeEntry {
    /// At the start, with its arguments.
    Function,
    /// At the `loop` operator of this byte offset in the module, with the interpreter's frame.
    Loop {
        offset: u32,
        /// Whether the frame has scratch slots.
        wide_slots: bool,
    },
}

/// The compiler for this machine. At the best tiers it may `optimise`.
pub(super) fn isa(tier: Tier, optimise: bool) -> Result<OwnedTargetIsa> {
    let mut flags = settings::builder();
    let verify = if cfg!(any(debug_assertions, test)) { "true" } else { "false" };
    let regalloc = match tier {
        Tier::Quick => "single_pass",
        Tier::BestWithLoops | Tier::Best => "backtracking",
    };
    let opt_level = if optimise { "speed" } else { "none" };
    let settings = [
        ("opt_level", opt_level),
        ("regalloc_algorithm", regalloc),
        ("enable_verifier", verify),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("preserve_frame_pointers", "true"),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("enable_multi_ret_implicit_sret", "true"),
        // Spectre mitigations are off: mutually distrusting programs belong in processes of their own.
        ("enable_heap_access_spectre_mitigation", "false"),
        ("enable_table_access_spectre_mitigation", "false"),
    ];
    let refused = |error: &dyn std::fmt::Display| Error::resource(format!("no compiler for this processor: {error}"));
    for (name, value) in settings {
        flags.set(name, value).map_err(|error| refused(&error))?;
    }
    let isa = cranelift_native::builder().map_err(|error| refused(&error))?;
    let isa = isa.finish(settings::Flags::new(flags)).map_err(|error| refused(&error))?;
    // Without these, rounding and shuffles would need library functions.
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("ssse3") && std::is_x86_feature_detected!("sse4.1")) {
        return Err(refused(&"it has no SSE4.1"));
    }
    Ok(isa)
}
