//! Exceptions that the host makes, throws, and looks into.

use std::panic::resume_unwind;

use super::caller::Caller;
use super::store::{AsContextMut, Store, StoreContextMut};
use super::tag::Tag;
use super::value::Value;
use crate::error::{Error, ErrorKind, ExnRef, Result};
use crate::vm::context::VMException;
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
        // SAFETY: the store is borrowed exclusively and used through its own pointer. No slot is in use but those of suspended
        // code, which is below `value_top`.
        if let Err(error) = unsafe { exception::make_room(own, ty.param_slots()) } {
            // Of the store's limiter.
            // SAFETY: as above.
            if let Some(panic) = unsafe { (*own).panic.take() } {
                resume_unwind(panic);
            }
            return Err(error);
        }
        let mut slots = vec![0; ty.param_slots()];
        // SAFETY: as above; there is room for the values, which have the types of the tag. No collection runs from where the
        // values have slots until these are in the exception, and until that is pinned.
        unsafe {
            let store = &mut *own;
            Value::write_all(payload, slots.as_mut_ptr(), store)?;
            let tag: *const _ = &*store.tags[tag.0.index(store)];
            let exception = exception::allocate(store, tag, slots.as_ptr())?;
            Ok(exception::pin(store, exception))
        }
    }

    /// The exception, to be looked into.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it is in another store.
    fn in_store(&self, store: &StoreOpaque) -> Result<*mut VMException> {
        exception::to_slot(store, self).map(|slot| slot as usize as *mut VMException)
    }

    /// The tag that the exception was made with.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if the exception is in another store.
    pub fn tag(&self, mut store: impl AsContextMut) -> Result<Tag> {
        let exception = self.in_store(&store.as_context_mut().into_inner().opaque)?;
        // SAFETY: `self` keeps the exception alive, and its tag lives as long as the store.
        Ok(Tag(unsafe { (*(*exception).tag).handle }))
    }

    /// The values of the payload.
    ///
    /// # Errors
    /// As for [`ExnRef::tag`].
    pub fn fields(&self, mut store: impl AsContextMut) -> Result<impl ExactSizeIterator<Item = Value>> {
        let store = &store.as_context_mut().into_inner().opaque;
        let exception = self.in_store(store)?;
        // SAFETY: `self` keeps the exception alive. Its payload holds values of its tag's parameter types, of this store.
        let values = unsafe {
            let ty = store.engine.types.func_type((*(*exception).tag).sig.number());
            let mut values: Vec<_> = ty.params().iter().map(Value::default_for).collect();
            Value::read_all(ty.params(), VMException::payload(exception), store, &mut values);
            values
        };
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
