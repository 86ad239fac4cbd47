//! Exceptions that the host makes, throws, and looks into.

use std::panic::resume_unwind;

use super::caller::Caller;
use super::store::{AsContextMut, Store, StoreContextMut};
use super::tag::Tag;
use super::value::Value;
use crate::error::{Error, ErrorKind, ExnRef, Result};
use crate::vm::context::VMTag;
use crate::vm::exception;
use crate::vm::store::StoreOpaque;

impl ExnRef {
    /// Makes an exception with a tag and a payload, for a host function to throw ([`Caller::throw`]) or to pass on.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if the tag is in another store, the payload does not fit the tag's type or refers to
    /// an object in another store; [`Resource`](ErrorKind::Resource) if exceptions take too much memory, as for a throw of
    /// WebAssembly code.
    ///
    /// ```
    /// use wasmrun::{Caller, ExnRef, Func, FuncType, Instance, Module, Store, Tag, TagType, Val, ValType};
    /// let mut store = Store::<()>::default();
    /// let ty = TagType::new(FuncType::new(store.engine(), [ValType::I32], []));
    /// let tag = Tag::new(&mut store, &ty)?;
    /// let throw = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>, n: i32| {
    ///     let exception = ExnRef::new(&mut caller, &tag, &[Val::I32(n)])?;
    ///     caller.throw::<()>(exception)
    /// });
    /// let module = Module::new(store.engine(), r#"(module
    ///     (import "" "tag" (tag $tag (param i32))) (import "" "throw" (func $throw (param i32)))
    ///     (func (export "catch") (result i32)
    ///         (block $caught (result i32)
    ///             (try_table (catch $tag $caught) (call $throw (i32.const 7)))
    ///             (i32.const 0))))"#)?;
    /// let instance = Instance::new(&mut store, &module, &[tag.into(), throw.into()])?;
    /// assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "catch")?.call(&mut store, ())?, 7);
    ///
    /// // Nothing catches it: the caller gets it as an error.
    /// let error = throw.typed::<i32, ()>(&store)?.call(&mut store, 8).unwrap_err();
    /// let exception = error.exception().unwrap();
    /// assert_eq!(exception.tag(&mut store)?, tag);
    /// assert_eq!(exception.field(&mut store, 0)?.unwrap_i32(), 8);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn new(mut store: impl AsContextMut, tag: &Tag, payload: &[Value]) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        if !tag.0.belongs_to(store) {
            return Err(Error::usage("tag used with another store than its own"));
        }
        let ty = store.engine.types.func_type(store.tags[tag.0.index(store)].sig.number());
        Value::check_all(store, payload, ty.params(), "field")?;
        store.collect_if_due(payload.iter().any(Value::is_host_object));
        let own = store.as_ptr();
        let mut slots = vec![0; ty.param_slots()];
        // SAFETY: the store is borrowed exclusively and used through its own pointer. No slot is in use but those of suspended
        // code, which is below `value_top`, and the values, which have the types of the tag: no collection runs before they
        // are among the temporaries, and until the exception is pinned.
        let made = unsafe {
            Value::write_all(payload, slots.as_mut_ptr(), &mut *own)?;
            let temporaries = &mut (*own).gc.temporaries;
            let start = temporaries.len();
            temporaries.extend_from_slice(&slots);
            let tag: *const _ = &*(&(*own).tags)[tag.0.index(&*own)];
            let made = exception::allocate(own, tag, slots.as_ptr());
            (*own).gc.temporaries.truncate(start);
            made
        };
        match made {
            // SAFETY: as above.
            Ok(exception) => Ok(exception::pin(unsafe { &*own }, exception)),
            Err(error) => {
                // Of the store's limiter.
                // SAFETY: as above.
                if let Some(panic) = unsafe { (*own).panic.take() } {
                    resume_unwind(panic);
                }
                Err(error)
            }
        }
    }

    /// The exception, to be looked into.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it is in another store.
    fn in_store(&self, store: &StoreOpaque) -> Result<u32> {
        exception::to_slot(store, self).map(|slot| slot as u32)
    }

    /// The tag that the exception was made with.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if the exception is in another store.
    pub fn tag(&self, mut store: impl AsContextMut) -> Result<Tag> {
        let store = &store.as_context_mut().into_inner().opaque;
        // SAFETY: `self` keeps the exception alive.
        Ok(Tag(unsafe { exception::tag(store, self.in_store(store)?)?.handle }))
    }

    /// The values of the payload.
    ///
    /// # Errors
    /// As for [`ExnRef::tag`].
    pub fn fields(&self, mut store: impl AsContextMut) -> Result<impl ExactSizeIterator<Item = Value>> {
        let store = &store.as_context_mut().into_inner().opaque;
        let exception = self.in_store(store)?;
        // SAFETY: `self` keeps the exception alive.
        let (_, values) = unsafe { Value::of_exception(store, exception, usize::MAX)? };
        Ok(values.into_iter())
    }

    /// The value at an index of the payload.
    ///
    /// # Errors
    /// As for [`ExnRef::tag`], and if the payload has no such value.
    pub fn field(&self, store: impl AsContextMut, index: usize) -> Result<Value> {
        let mut fields = self.fields(store)?;
        let count = fields.len();
        fields.nth(index).ok_or_else(|| Error::usage(format!("the exception has {count} field(s), not field {index}")))
    }
}

impl Value {
    /// The tag of an exception, and at most so many values of its payload.
    ///
    /// # Errors
    /// A trap if a fault has overwritten the exception.
    ///
    /// # Safety
    /// `exception` must be one of the store that is kept alive.
    pub(super) unsafe fn of_exception(
        store: &StoreOpaque,
        exception: u32,
        most: usize,
    ) -> Result<(&VMTag, Vec<Value>)> {
        // SAFETY: the caller's promise. The payload holds values of the tag's parameter types, of this store.
        unsafe {
            let tag = exception::tag(store, exception)?;
            let ty = store.engine.types.func_type(tag.sig.number());
            let mut slots = vec![0; tag.slots];
            exception::read_payload(store, exception, tag, slots.as_mut_ptr())?;
            let mut values: Vec<_> = ty.params().iter().take(most).map(Value::default_for).collect();
            Value::read_all(ty.params(), slots.as_ptr(), store, &mut values);
            Ok((tag, values))
        }
    }
}

/// The error with which a host function throws.
fn throw<R>(store: &StoreOpaque, exception: ExnRef) -> Result<R> {
    exception.in_store(store)?;
    Err(Error::new(ErrorKind::Exception(exception)))
}

impl<T> Store<T> {
    /// As [`Caller::throw`].
    ///
    /// # Errors
    /// Always.
    pub fn throw<R>(&mut self, exception: ExnRef) -> Result<R> {
        throw(&self.inner().opaque, exception)
    }
}

impl<T> StoreContextMut<'_, T> {
    /// As [`Caller::throw`].
    ///
    /// # Errors
    /// Always.
    pub fn throw<R>(&mut self, exception: ExnRef) -> Result<R> {
        throw(&self.inner().opaque, exception)
    }
}

impl<T> Caller<'_, T> {
    /// The error with which a host function throws an exception: WebAssembly code that called it can catch that. See
    /// [`ExnRef::new`].
    ///
    /// # Errors
    /// Always: the exception, or a [`Usage`](ErrorKind::Usage) error if it is in another store.
    pub fn throw<R>(&mut self, exception: ExnRef) -> Result<R> {
        self.as_context_mut().throw(exception)
    }
}
