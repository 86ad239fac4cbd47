//! Validation of function bodies: of all at once, or of each one before its first call.

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use wasmparser::{
    BinaryReader, BinaryReaderError, FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody,
    ValidatorResources, WasmFeatures,
};

use super::decode::Parsed;
use super::source::ModuleSource;
use super::{ModuleFacts, features};
use crate::error::{Error, Result};

/// Bytes of bodies from which on validation uses more than one thread.
const PARALLEL_BYTES: usize = 512 << 10;

/// The validator for the body of the function with this index and type index.
fn validator(
    resources: &ValidatorResources,
    features: WasmFeatures,
    (index, ty): (u32, u32),
    allocations: FuncValidatorAllocations,
) -> FuncValidator<ValidatorResources> {
    FuncToValidate { resources: resources.clone(), index, ty, features }.into_validator(allocations)
}

/// A body that starts at byte `start` of its module.
fn to_validate(features: WasmFeatures, bytes: &[u8], start: usize) -> FunctionBody<'_> {
    FunctionBody::new(BinaryReader::new_features(bytes, start as u64, features))
}

/// Validates one body, given the function's index and type index; the body starts at byte `start` of the module.
fn body(
    resources: &ValidatorResources,
    features: WasmFeatures,
    func: (u32, u32),
    bytes: &[u8],
    start: usize,
    allocations: FuncValidatorAllocations,
) -> Parsed<FuncValidatorAllocations> {
    let mut validator = validator(resources, features, func, allocations);
    validator.validate(&to_validate(features, bytes, start))?;
    Ok(validator.into_allocations())
}

/// Validates the operators of a body one by one, each before it is translated.
pub(crate) struct Check(Option<FuncValidator<ValidatorResources>>);

impl Check {
    /// The validator, if the body has not been validated yet. After an error of it, translation must stop.
    #[inline]
    pub fn validator(&mut self) -> Option<&mut FuncValidator<ValidatorResources>> {
        self.0.as_mut()
    }
}

thread_local! {
    /// Buffers of the last validator on this thread.
    static BUFFERS: Cell<Option<FuncValidatorAllocations>> = const { Cell::new(None) };
}

/// Validates all bodies of a binary, on several threads if there is much to do. Of several errors, the first one in the
/// module is returned. `types` are the type indices of the defined functions; the first defined function has the index
/// `imported`.
pub(super) fn all(
    resources: &ValidatorResources,
    (features, imported): (WasmFeatures, u32),
    types: &[u32],
    binary: &[u8],
    bodies: &[Range<usize>],
) -> Parsed<()> {
    let some = |share: Range<usize>| {
        let mut allocations = FuncValidatorAllocations::default();
        for at in share {
            let range = bodies[at].clone();
            let func = (imported + at as u32, types[at]);
            allocations = body(resources, features, func, &binary[range.clone()], range.start, allocations)?;
        }
        Ok(())
    };
    let bytes: usize = bodies.iter().map(ExactSizeIterator::len).sum();
    if bytes < PARALLEL_BYTES {
        return some(0..bodies.len());
    }
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get().min(16));
    let shares = shares(bodies, bytes / cores.min(bytes / (PARALLEL_BYTES / 2)));
    thread::scope(|scope| {
        let (own, others) = shares.split_first().expect("there is code");
        // If no thread can be started, this one does the share.
        let others: Vec<_> = others
            .iter()
            .map(|share| thread::Builder::new().spawn_scoped(scope, || some(share.clone())).map_err(|_| share))
            .collect();
        let own = some(own.clone());
        let others = others.into_iter().map(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(share) => some(share.clone()),
        });
        let failed = std::iter::once(own).chain(others).filter_map(Result::err);
        failed.min_by_key(BinaryReaderError::offset).map_or(Ok(()), Err)
    })
}

/// Divides the bodies into contiguous shares of about `bytes` bytes each.
fn shares(bodies: &[Range<usize>], bytes: usize) -> Vec<Range<usize>> {
    let mut shares: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (at, body) in bodies.iter().enumerate() {
        match shares.last_mut() {
            Some(share) if filled <= bytes => share.end = at + 1,
            _ => {
                shares.push(at..at + 1);
                filled = 0;
            }
        }
        filled += body.len();
    }
    shares
}

/// Lazy validation: what is known of the bodies of a module that was made without validating them.
pub(crate) struct Lazy {
    resources: ValidatorResources,
    bodies: Bodies,
    /// The outcome of validation in the background, once it is done.
    pub(super) background: OnceLock<Result<()>>,
}

/// Which bodies are known to be valid.
enum Bodies {
    /// Of a module in memory.
    Memory(Box<[AtomicBool]>),
    /// Of a module in a file: copies of the valid bodies, because the file may change.
    File(Box<[OnceLock<Box<[u8]>>]>),
}

/// How far validation of a module has come.
#[derive(Debug)]
pub(crate) enum ValidationState<'a> {
    /// Not all functions have been validated yet.
    Pending,
    Valid,
    /// A function is invalid; or the module's file can't be read any more.
    Invalid(&'a Error),
}

impl Lazy {
    pub fn new(resources: ValidatorResources, source: &ModuleSource, defined: usize) -> Self {
        let bodies = match source {
            ModuleSource::Memory(_) => Bodies::Memory((0..defined).map(|_| AtomicBool::new(false)).collect()),
            ModuleSource::File(_) => Bodies::File((0..defined).map(|_| OnceLock::new()).collect()),
        };
        Lazy { resources, bodies, background: OnceLock::new() }
    }
}

impl ModuleFacts {
    /// Validates a defined function, unless that has been done.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) and [`Unsupported`](crate::ErrorKind::Unsupported), as eager validation
    /// gives them; [`Resource`](crate::ErrorKind::Resource) if it is in a file that can't be read any more.
    #[cfg_attr(not(any(jit, test)), expect(dead_code, reason = "the interpreter reads bodies as they are validated"))]
    pub fn ensure_valid(&self, defined: u32) -> Result<()> {
        self.valid_body(defined).map(drop)
    }

    /// Translates a body while validating it, so that a function is read only once on its first call: `read` must pass
    /// each operator to the [`Check`] before it translates it. `read` returns `None` if it did not reach the end of the
    /// body; the body does not count as validated then.
    ///
    /// # Errors
    /// Those of `read`, and those of [`ModuleFacts::ensure_valid`].
    pub fn read_body<T>(
        &self,
        defined: u32,
        read: impl FnOnce(FunctionBody<'_>, &mut Check) -> Parsed<Option<T>>,
    ) -> Result<Option<T>> {
        let at = defined as usize;
        let range = self.bodies[at].clone();
        let lazy = self.lazy.as_ref().filter(|lazy| match &lazy.bodies {
            Bodies::Memory(valid) => !valid[at].load(Ordering::Relaxed),
            Bodies::File(valid) => valid[at].get().is_none(),
        });
        let Some(lazy) = lazy else {
            let body = to_validate(self.features, self.valid_body(defined)?, range.start);
            return read(body, &mut Check(None)).map_err(|error| self.explain(&error));
        };
        let bytes = self.source.read(range.clone())?;
        let index = self.imported_funcs() + defined;
        let func = (index, self.funcs[index as usize]);
        let mut check =
            Check(Some(validator(&lazy.resources, self.features, func, BUFFERS.take().unwrap_or_default())));
        let body = to_validate(self.features, &bytes, range.start);
        let result = check.0.as_mut().map_or(Ok(()), |validator| validator.read_locals(&mut body.get_binary_reader()));
        let result = result.and_then(|()| read(body, &mut check));
        BUFFERS.set(check.0.map(FuncValidator::into_allocations));
        let result = result.map_err(|error| self.explain(&error))?;
        if result.is_some() {
            match &lazy.bodies {
                Bodies::Memory(valid) => valid[at].store(true, Ordering::Relaxed),
                Bodies::File(valid) => drop(valid[at].set(bytes.into())),
            }
        }
        Ok(result)
    }

    /// The error for an invalid body, with the proposal or the function's name.
    fn explain(&self, error: &BinaryReaderError) -> Error {
        match self.source.read(0..self.source.len()) {
            Ok(binary) => features::explain(self.features, &binary, error),
            Err(unreadable) => unreadable,
        }
    }

    /// The bytes of a body, validated before this returns.
    pub(super) fn valid_body(&self, defined: u32) -> Result<&[u8]> {
        let at = defined as usize;
        let range = self.bodies[at].clone();
        match (&self.source, self.lazy.as_ref().map(|lazy| (lazy, &lazy.bodies))) {
            (ModuleSource::Memory(bytes), None) => Ok(&bytes[range]),
            (ModuleSource::Memory(bytes), Some((lazy, Bodies::Memory(valid)))) => {
                let bytes = &bytes[range];
                if !valid[at].load(Ordering::Relaxed) {
                    self.validate(lazy, defined, bytes, Default::default())?;
                    valid[at].store(true, Ordering::Relaxed);
                }
                Ok(bytes)
            }
            (ModuleSource::File(_), Some((lazy, Bodies::File(valid)))) => {
                if let Some(bytes) = valid[at].get() {
                    return Ok(bytes);
                }
                let bytes = self.source.read(range)?;
                self.validate(lazy, defined, &bytes, Default::default())?;
                Ok(valid[at].get_or_init(|| bytes.into()))
            }
            _ => unreachable!("modules in files are validated lazily, and each kind has its own"),
        }
    }

    fn validate(
        &self,
        lazy: &Lazy,
        defined: u32,
        bytes: &[u8],
        allocations: FuncValidatorAllocations,
    ) -> Result<FuncValidatorAllocations> {
        let index = self.imported_funcs() + defined;
        let start = self.bodies[defined as usize].start;
        let func = (index, self.funcs[index as usize]);
        body(&lazy.resources, self.features, func, bytes, start, allocations).map_err(|error| self.explain(&error))
    }

    /// Validates those defined functions in `some` that are not known to be valid; for the background.
    ///
    /// For a module in a file nothing is recorded: the file may hold other bytes when a body is read from it later.
    pub(super) fn validate_some(&self, lazy: &Lazy, some: Range<usize>) -> Result<()> {
        let (Some(first), Some(last)) = (self.bodies.get(some.start), some.clone().last()) else { return Ok(()) };
        let piece = first.start..self.bodies[last].end;
        let bytes = self.source.read(piece.clone())?;
        let mut allocations = FuncValidatorAllocations::default();
        for at in some {
            let known = match &lazy.bodies {
                Bodies::Memory(valid) => valid[at].load(Ordering::Relaxed),
                Bodies::File(valid) => valid[at].get().is_some(),
            };
            if known {
                continue;
            }
            let body = self.bodies[at].start - piece.start..self.bodies[at].end - piece.start;
            allocations = self.validate(lazy, at as u32, &bytes[body], allocations)?;
            if let Bodies::Memory(valid) = &lazy.bodies {
                valid[at].store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// How far validation of the whole module has come.
    pub fn validation_state(&self) -> ValidationState<'_> {
        match self.lazy.as_ref().map(|lazy| lazy.background.get()) {
            None | Some(Some(Ok(()))) => ValidationState::Valid,
            Some(None) => ValidationState::Pending,
            Some(Some(Err(error))) => ValidationState::Invalid(error),
        }
    }

    /// Ends validation in the background, because a module of the same bytes is known to be valid. Functions are still
    /// validated before their first call.
    pub fn assume_background_valid(&self) {
        if let Some(lazy) = &self.lazy {
            // If the background was faster, its outcome stands.
            let _ = lazy.background.set(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn every_body_is_in_one_share() {
        for lens in [&[5][..], &[1; 10], &[3, 100, 3, 3, 100, 100, 2], &[100, 1]] {
            let mut next = 0;
            let bodies = Vec::from_iter(lens.iter().map(|len| {
                next += len;
                next - len..next
            }));
            for bytes in [0, 1, 4, 50, 150, 1000] {
                let shared = Vec::from_iter(shares(&bodies, bytes).into_iter().flatten());
                assert_eq!(shared, Vec::from_iter(0..bodies.len()), "{bytes} of {lens:?}");
            }
        }
    }
}
