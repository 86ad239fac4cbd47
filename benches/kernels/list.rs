//! The kernels, for the benchmarks of this crate and of `peers`.

use std::path::{Path, PathBuf};

/// A kernel: a module with an export `run`, which does a number of rounds and returns a checksum.
pub struct Kernel {
    pub name: &'static str,
    /// Rounds for some milliseconds of compiled code.
    pub quick: i32,
    /// Rounds for more than two seconds of compiled code.
    pub long: i32,
}

const fn kernel(name: &'static str, quick: i32, long: i32) -> Kernel {
    Kernel { name, quick, long }
}

pub const KERNELS: [Kernel; 13] = [
    kernel("sha256", 200, 100_000), // integer arithmetic
    kernel("nbody", 60, 30_000),    // floating point
    kernel("mandelbrot", 7, 3400),  // floating point and branches
    kernel("matmul", 3, 1400),      // floating point and memory
    kernel("stream", 3, 1200),      // memory streaming
    kernel("sieve", 6, 2900),       // strided stores
    kernel("pointers", 5, 2200),    // pointer chasing
    kernel("calls", 25, 12_000),    // direct calls
    kernel("indirect", 35, 17_000), // indirect calls
    kernel("branches", 30, 15_000), // br_table and branches hard to foresee
    kernel("sort", 4, 1700),        // comparisons and swaps
    kernel("strings", 9, 4300),     // bytes
    kernel("simd", 400, 200_000),   // vectors
];

/// Kernels of newer proposals, which not every runtime has. They are in the text format.
pub const NEWER_KERNELS: [Kernel; 9] = [
    kernel("stream64", 3, 1200),         // streaming through a 64-bit memory
    kernel("references", 300, 150_000),  // calls through typed references
    kernel("throws", 30, 15_000),        // exceptions thrown over ten frames
    kernel("allocation", 2000, 800_000), // small objects that die young
    kernel("trees", 50, 5000),           // binary trees
    kernel("map", 4, 1500),              // a hash map of structs
    kernel("bytes", 20, 12_000),         // strings in arrays of bytes
    kernel("methods", 300, 150_000),     // virtual calls through references
    kernel("casts", 200, 100_000),       // checked casts
];

/// The module of a kernel, in the binary or the text format; `folder` is that of this file.
pub fn load(folder: &Path, kernel: &Kernel) -> Vec<u8> {
    let binary = folder.join(kernel.name).with_extension("wasm");
    let path: PathBuf = if binary.exists() { binary } else { binary.with_extension("wat") };
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
