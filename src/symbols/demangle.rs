//! Names for people from linkage names: those of Rust (both forms) and C++.
//!
//! A name of a module may be made to be expensive. rustc-demangle bounds its recursion and takes time proportional to what it
//! writes, which is bounded here. cpp_demangle tries alternatives that take exponential time in the nesting of a malformed name, so
//! its recursion and the length of names are bounded, and a module's names of C++ get a time for all of them together: after that,
//! they stay as they are.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

use crate::sys;

/// The most bytes of a linkage name of Rust, and of any demangled name.
const MAX_NAME: usize = 4096;

/// The most bytes of a linkage name of C++.
const MAX_CPP_NAME: usize = 512;

/// The deepest recursion of cpp_demangle's parser and printer. Of 3000 names of LLVM, which has long ones, 91 % need less. The worst
/// name that was found takes a millisecond then, and 80 with the 96 that cpp_demangle has by default.
const MAX_CPP_PARSING: u32 = 32;
const MAX_CPP_PRINTING: u32 = 96;

/// The most time that a module's names of C++ take together. An ordinary one takes 5 µs.
const MAX_CPP_TIME: Duration = Duration::from_millis(200);

/// Bytes of stack that must be left: rustc-demangle recurses 500 times at most.
const STACK: usize = 192 << 10;

/// Demangles the names of one module.
#[derive(Debug, Default)]
pub(crate) struct Demangler {
    /// Nanoseconds that names of C++ have taken so far.
    cpp_time: AtomicU64,
}

impl Demangler {
    /// The name as it is in the source, with its path and its type arguments; `None` if it is no linkage name that is known, or if
    /// it takes too much.
    ///
    /// Names of Swift (`$s...`) are not known: no crate for them is written in Rust.
    pub fn demangle(&self, name: &str) -> Option<String> {
        let is_linkage_name = name.starts_with("_Z") || name.starts_with("_R");
        if !is_linkage_name || name.len() > MAX_NAME || sys::stack_remaining() < STACK {
            return None;
        }
        if let Ok(name) = rustc_demangle::try_demangle(name) {
            let mut text = Bounded::default();
            // The alternate form has no hash at the end.
            return write!(text, "{name:#}").is_ok().then_some(text.0);
        }
        if name.len() > MAX_CPP_NAME || self.cpp_time.load(Relaxed) > MAX_CPP_TIME.as_nanos() as u64 {
            return None;
        }
        let start = Instant::now();
        let text = cpp(name);
        self.cpp_time.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        text
    }
}

fn cpp(name: &str) -> Option<String> {
    let symbol = Symbol::new_with_options(name, &ParseOptions::default().recursion_limit(MAX_CPP_PARSING)).ok()?;
    let options = DemangleOptions::default().recursion_limit(MAX_CPP_PRINTING);
    let mut text = Bounded::default();
    symbol.structured_demangle(&mut text, &options).is_ok().then_some(text.0)
}

/// A text that can't get longer than [`MAX_NAME`]: what is written beyond is an error, which ends the demangling.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_kind_are_shown_as_in_the_source() {
        let demangler = Demangler::default();
        for (name, shown) in [
            ("_ZN4core9panicking5panic17h0123456789abcdefE", Some("core::panicking::panic")),
            ("_ZN5alloc3vec16Vec$LT$T$C$A$GT$4push17h0123456789abcdefE", Some("alloc::vec::Vec<T,A>::push")),
            ("_RNvCs1234_7mycrate3foo", Some("mycrate::foo")),
            ("_RINvNtC3std3mem8align_ofdE", Some("std::mem::align_of::<f64>")),
            ("_ZN3foo3barEv", Some("foo::bar()")),
            ("_ZNSt6vectorIiSaIiEE9push_backEOi", Some("std::vector<int, std::allocator<int> >::push_back(int&&)")),
            ("_Z1fPPPPPi", Some("f(int*****)")),
            ("_Z1fPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPi", None),
            ("_start", None),
            ("main", None),
            ("$s4main3fooyyF", None),
            ("_Z", None),
            ("_R", None),
            ("_ZN", None),
            ("", None),
        ] {
            assert_eq!(demangler.demangle(name).as_deref(), shown, "{name}");
        }
    }

    /// Names that expand without end, recurse, or that cpp_demangle takes exponential time for.
    fn hostile() -> Vec<String> {
        let doubling = |depth: usize| {
            // Each substitution stands for a pair of the one before it.
            let pairs: String = (0..depth).map(|at| format!("1pIS{at}_S{at}_E")).collect();
            format!("_Z1fI1aE{pairs}")
        };
        let refer = "NvC1a1aIB1_".repeat(100);
        let mut names = vec![
            doubling(20),
            doubling(36),
            format!("_R{}", "Y".repeat(4000)),
            format!("_R{}p", "S".repeat(4000)),
            format!("_RNvC1a1aI{}E", "TB9_B9_E".repeat(300)),
            format!("_R{refer}"),
            format!("_ZN{}E", "4aaaa".repeat(800)),
            format!("_Z1f{}i", "P".repeat(4000)),
            format!("_Z1f{}", "SaGVSaGVSaI".repeat(46)),
            format!("_Zna{}", "ath".repeat(160)),
            format!("_Z3foo{}", "ixil".repeat(120)),
            format!("_Znw{}", "cvT_j".repeat(100)),
            format!("_Zqu{}", "denadenadcvT_ed".repeat(33)),
            format!("_Z1fIJ{}E", "Dp".repeat(240)),
        ];
        for part in ["M", "K", "F", "I", "N", "L", "X", "Dp", "DT", "sr", "cl", "T_", "SaI", "UlE_", "A_", "Z1fE"] {
            names.push(format!("_Z{}", part.repeat(500 / part.len())));
            names.push(format!("_Z1f{}v{}", part.repeat(200 / part.len()), "E".repeat(200)));
        }
        names
    }

    #[test]
    fn hostile_names_take_little_memory_and_stack() {
        let work = || {
            let demangler = Demangler::default();
            for round in 0..50 {
                for name in hostile() {
                    let shown = demangler.demangle(&name[..name.len().saturating_sub(round)]);
                    assert!(shown.is_none_or(|shown| shown.len() <= MAX_NAME));
                }
            }
        };
        // Little more stack than the least with which a name is demangled at all.
        let thread = std::thread::Builder::new().stack_size(STACK + (24 << 10)).spawn(work).unwrap();
        thread.join().unwrap();
    }

    /// Once a module's names of C++ have taken their time, they stay as they are, and those of Rust do not.
    #[test]
    fn the_time_for_a_modules_names_is_bounded() {
        let demangler = Demangler::default();
        demangler.cpp_time.store(MAX_CPP_TIME.as_nanos() as u64 + 1, Relaxed);
        assert_eq!(demangler.demangle("_ZN3foo3barEv"), None);
        assert_eq!(demangler.demangle("_RNvCs1234_7mycrate3foo").as_deref(), Some("mycrate::foo"));
    }

    /// On a stack of which little is left, a name stays as it is.
    #[test]
    fn a_small_stack_is_left_alone() {
        /// Demangles where less than `left` bytes are left of the stack.
        #[inline(never)]
        fn deep(left: usize) -> Option<String> {
            let frame = std::hint::black_box([0u8; 4096]);
            let name = match sys::stack_remaining() < left {
                true => Demangler::default().demangle("_RNvCs1234_7mycrate3foo"),
                false => deep(left),
            };
            std::hint::black_box(frame);
            name
        }
        let on_a_thread = |left| std::thread::spawn(move || deep(left)).join().unwrap();
        assert_eq!(on_a_thread(STACK), None);
        assert_eq!(on_a_thread(STACK + (64 << 10)).as_deref(), Some("mycrate::foo"));
    }
}
