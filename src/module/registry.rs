//! Engine-wide numbers of types.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::types::FuncType;

/// A registered function type: an engine-wide number, kept while this lives.
pub(crate) struct Sig {
    number: u32,
    registry: Arc<SigRegistry>,
}

impl Sig {
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where in an array of these the number of one is, in bytes. There are fewer than 2^20.
    #[cfg(baseline)]
    pub fn numbers_offset(index: u32) -> i32 {
        index as i32 * size_of::<Sig>() as i32 + std::mem::offset_of!(Sig, number) as i32
    }
}

impl Drop for Sig {
    fn drop(&mut self) {
        let mut table = self.registry.lock();
        let entry = table.by_number.get_mut(&self.number).expect("live signatures are registered");
        entry.1 -= 1;
        if entry.1 == 0 {
            let (ty, _) = table.by_number.remove(&self.number).expect("it was there");
            table.by_type.remove(&ty);
        }
    }
}

#[derive(Default)]
pub(crate) struct SigRegistry(Mutex<SigTable>);

/// Numbers are not used again after their type has gone: code that was compiled for a number stays right.
#[derive(Default)]
struct SigTable {
    by_type: HashMap<Arc<FuncType>, u32>,
    by_number: HashMap<u32, (Arc<FuncType>, usize)>,
    next: u32,
}

impl SigRegistry {
    /// The type behind a number that some live [`Sig`] holds.
    pub fn get(&self, number: u32) -> Arc<FuncType> {
        self.lock().by_number[&number].0.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SigTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a function type; equal types get equal numbers while any [`Sig`] of them lives.
    pub fn register(self: Arc<Self>, ty: &FuncType) -> Sig {
        let mut guard = self.lock();
        let table = &mut *guard;
        let number = match table.by_type.get(ty) {
            Some(&number) => {
                table.by_number.get_mut(&number).expect("both maps agree").1 += 1;
                number
            }
            None => {
                let number = table.next;
                table.next = number.checked_add(1).expect("fewer than 2^32 function types in the life of an engine");
                let ty = Arc::new(ty.clone());
                table.by_type.insert(ty.clone(), number);
                table.by_number.insert(number, (ty, 1));
                number
            }
        };
        drop(guard);
        Sig { number, registry: self }
    }
}
