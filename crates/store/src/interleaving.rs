//! What tests let happen in between: another thread's doing at just the moment at which it matters. Builds without debug
//! assertions, released ones among them, have no place for it.

#[cfg(debug_assertions)]
thread_local! {
    static MEANWHILE: std::cell::RefCell<Option<Box<dyn FnMut()>>> = const { std::cell::RefCell::new(None) };
}

/// What happens from now on each time that this thread has found an object by its inode, or a name, and not used it yet.
#[cfg(debug_assertions)]
pub fn meanwhile(act: Option<Box<dyn FnMut()>>) {
    MEANWHILE.set(act);
}

/// This thread is about to use a name of which it knows what it stands for.
#[cfg(debug_assertions)]
pub fn just_before_use() {
    found();
}

#[cfg(not(debug_assertions))]
pub const fn just_before_use() {}

/// This thread has found an object, or all of them, and holds no lock.
#[cfg(debug_assertions)]
pub(super) fn found() {
    // Whatever it finds itself is not interrupted.
    if let Some(mut act) = MEANWHILE.take() {
        act();
        MEANWHILE.set(Some(act));
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn found() {}
