//! The garbage-collected heap of a store: structures, arrays and exceptions (specification 3.0, "Structure Instances", "Array
//! Instances" and "Exception Instances").
//!
//! What may be here: the descriptors of types (`descriptor`), allocation (`heap`, `blocks`), marking (`mark`; what the roots are is
//! in [`heap`](super::heap)), reads and writes that stay in the heap (`access`), the numbers that functions have there
//! (`functions`), the instructions that all engines have one implementation of (`ops`), and the objects that the host holds
//! (`pins`), makes, reads and writes (`object`).
//! What may not: where the parts of an object are, which follows from its type (`module::layout`).
//!
//! A reference is a 32-bit offset from the heap's base, zero-extended in a slot of 64 bits; see [`layout`] for the low bits.
//! The heap has a reservation of its own, as large as such an offset can tell and a guard behind it, so whatever is in the
//! heap, an access through a reference from there stays in the reservation. Function references are pointers elsewhere, so
//! the heap has numbers for them.

pub(crate) mod access;
mod blocks;
mod descriptor;
pub(crate) mod functions;
pub(crate) mod heap;
mod mark;
pub(crate) mod object;
pub(crate) mod ops;
mod pins;

pub(crate) use crate::module::layout;
pub(crate) use descriptor::{descriptor, of_tag, prepare};
pub(crate) use heap::{GcHeap, alloc};
pub(crate) use pins::GcPin;

#[cfg(test)]
mod tests;
