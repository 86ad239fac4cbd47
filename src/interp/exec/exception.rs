//! Exceptions: a throw searches the frames of its activation, innermost first. If none catches it, it ends the activation as an
//! error.

use super::control::cross_instance_return;
use crate::error::{Error, Trap};
use crate::interp::frames::Frames;
use crate::interp::machine::{Flow, HEADER, Machine, Step};
use crate::vm::context::VMContext;
use crate::vm::exception;
use crate::vm::store::StoreOpaque;

run! {
    // No branch, at whose target a request would be seen and the accumulators lost.
    Try(m) m.skip(m.bc() as usize)
    Throw(_m) Flow::Slow(throw)
    ThrowRef(_m) Flow::Slow(throw_ref)
}

fn store(m: &Machine) -> &StoreOpaque {
    // SAFETY: the store of the running instance.
    unsafe { &*(*m.vmctx()).store.cast() }
}

fn throw(m: &mut Machine) -> Step {
    let (vmctx, payload) = (m.vmctx(), m.fp.wrapping_add(m.low(1) as usize));
    // SAFETY: the running instance, a tag of its module with its payload, which is on top of the operand stack.
    let made = unsafe {
        (*(*vmctx).store).value_top = payload.wrapping_add(m.high(1) as usize);
        exception::new(vmctx, m.bc(), payload)
    };
    match made {
        Ok(exception) => search(m, exception, None),
        Err(error) => m.stop(error),
    }
}

fn throw_ref(m: &mut Machine) -> Step {
    match m.get::<u64>(m.a()) {
        0 => m.stop(Trap::NullExceptionReference),
        reference => search(m, reference as u32, None),
    }
}

/// A call of other code has failed: searches for a handler if the error is an exception, otherwise stops.
pub(super) fn failed(m: &mut Machine, error: Error) -> Step {
    match exception::from_error(store(m), error) {
        Ok((exception, error)) => search(m, exception, Some(error)),
        Err(error) => m.stop(error),
    }
}

/// The same for code that has replaced the running frame, whose header this is: it fails in the caller.
pub(super) fn failed_in_caller(m: &mut Machine, header: [u64; HEADER as usize], error: Error) -> Step {
    m.ip = header[0] as *const u64;
    m.fp = header[1] as *mut u64;
    if m.ip == cross_instance_return() {
        // SAFETY: the header says that its last two words were written.
        unsafe { m.context().switch(header[2] as *mut VMContext) };
        m.ip = header[3] as *const u64;
    }
    m.ip = m.ip.wrapping_sub(1);
    m.context().after_call = true;
    failed(m, error)
}

/// Goes on at the clause that catches an exception thrown by the instruction at `m.ip`. If there is none, stops with `error`, or
/// with a new error of the exception.
fn search(m: &mut Machine, exception: u32, error: Option<Error>) -> Step {
    let after_call = m.context().after_call;
    for frame in Frames::new(m) {
        for clause in frame.code.clauses(frame.word) {
            let [target, tag] = *clause;
            let (offset, slot) = (target as u32 as i32 as isize, (target >> 32) as usize);
            let (tag, reference) = (tag as u32, tag >> 32);
            // SAFETY: a live exception, and a tag of the frame's module.
            if tag != u32::MAX && !unsafe { exception::has_tag(exception, frame.vmctx, tag) } {
                continue;
            }
            let to = frame.fp.wrapping_add(slot);
            // SAFETY: the label of the clause has slots for the payload, if the clause takes it, and the reference.
            unsafe {
                let mut slots = 0;
                if tag != u32::MAX {
                    let tag = &*exception::instance_tag(frame.vmctx, tag);
                    slots = tag.slots;
                    let to = to.add(usize::from(reference == 2));
                    if let Err(error) = exception::read_payload(store(m), exception, tag, to) {
                        m.context().after_call = after_call;
                        return m.stop(error);
                    }
                }
                match reference {
                    0 => {}
                    1 => *to.add(slots) = exception.into(),
                    _ => *to = exception.into(),
                }
                if frame.vmctx != m.vmctx() {
                    m.context().switch(frame.vmctx);
                }
            }
            m.fp = frame.fp;
            // By the pointer to all words: the clause's pointer may only be used for the clause.
            let words = frame.code.words().as_ptr();
            let at = (clause.as_ptr() as usize - words as usize) / size_of::<u64>();
            m.ip = words.wrapping_add(at).wrapping_offset(offset);
            return Step::Next;
        }
    }
    // The backtrace starts at the same frame, and the walk over the frames has reset this.
    m.context().after_call = after_call;
    let error = error.unwrap_or_else(|| exception::into_error(store(m), exception));
    m.stop(error)
}
