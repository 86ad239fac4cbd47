//! The budget of a store.

use super::store::{AsContextMut, Store, StoreContextMut};
use crate::config::budget::{Budget, BudgetUsed};
use crate::error::{BudgetItem, Result};

impl<T> Store<T> {
    /// Sets what the store's code may use from now on, in place of the budget before: see [`Budget`] for an example. What was
    /// used before counts; wall time begins now.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if time is limited and the thread that watches it, one for the process, can't
    /// be started. The budget before holds then.
    pub fn set_budget(&mut self, budget: &Budget) -> Result<()> {
        self.as_context_mut().set_budget(budget)
    }

    /// What the store's code has used so far.
    ///
    /// ```
    /// use wasmrun::{Engine, Memory, MemoryType, Store};
    /// let mut store = Store::new(&Engine::default(), ());
    /// Memory::new(&mut store, MemoryType::new(2, None))?;
    /// assert_eq!(store.budget_used().linear_memory, 2 << 16);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn budget_used(&self) -> BudgetUsed {
        self.inner().opaque.budget_used()
    }

    /// The items of its budgets that the store's code has come to so far: it was ended for them, or something was refused to
    /// it. In the order of [`BudgetItem`], each once.
    pub fn budget_reached(&self) -> Vec<BudgetItem> {
        self.inner().opaque.account.io.reached.items()
    }
}

impl<T> StoreContextMut<'_, T> {
    /// Sets the budget; see [`Store::set_budget`].
    ///
    /// # Errors
    /// As for [`Store::set_budget`].
    pub fn set_budget(&mut self, budget: &Budget) -> Result<()> {
        self.as_context_mut().into_inner().opaque.set_budget(budget)
    }

    /// What the store's code has used so far; see [`Store::budget_used`].
    pub fn budget_used(&self) -> BudgetUsed {
        self.inner().opaque.budget_used()
    }
}
