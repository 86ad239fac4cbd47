//! The garbage-collected heap of a store: structures and arrays (specification 3.0, "Structure Instances" and "Array
//! Instances").
//!
//! What may be here: the descriptors of types (`descriptor`), allocation (`heap`), reads and writes that stay in the heap
//! (`access`), the numbers that functions have there (`functions`), and the instructions that all engines have one
//! implementation of (`ops`).
//! What may not: where the parts of an object are, which follows from its type (`module::layout`).
//!
//! A reference is a 32-bit offset from the heap's base, zero-extended in a slot of 64 bits; see [`layout`] for the low bits.
//! The heap has a reservation of its own, as large as such an offset can tell and a guard behind it, so whatever is in the
//! heap, an access through a reference from there stays in the reservation. Function references are pointers elsewhere, so
//! the heap has numbers for them.

pub(crate) mod access;
mod descriptor;
pub(crate) mod functions;
pub(crate) mod heap;
pub(crate) mod ops;

pub(crate) use crate::module::layout;
pub(crate) use descriptor::{descriptor, prepare};
pub(crate) use heap::{GcHeap, alloc};
