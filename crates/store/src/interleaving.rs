//! What tests let happen in between: another thread's doing at just the moment at which it matters. Only
//! the feature `testing`, which the testing package alone enables, has a place for it.

#[cfg(feature = "testing")]
thread_local! {
    static MEANWHILE: std::cell::RefCell<Option<Box<dyn FnMut()>>> = const { std::cell::RefCell::new(None) };
}

/// What happens from now on each time that this thread has found an object by its inode, or a name, and not used it
/// yet.
#[cfg(feature = "testing")]
pub fn meanwhile(act: Option<Box<dyn FnMut()>>) {
    MEANWHILE.set(act);
}

/// This thread is about to use a name of which it knows what it stands for.
#[cfg(feature = "testing")]
pub fn just_before_use() {
    found();
}

#[cfg(not(feature = "testing"))]
pub const fn just_before_use() {}

/// This thread has found an object, or all of them, and holds no lock.
#[cfg(feature = "testing")]
pub(super) fn found() {
    // Whatever it finds itself is not interrupted.
    if let Some(mut act) = MEANWHILE.take() {
        act();
        MEANWHILE.set(Some(act));
    }
}

#[cfg(not(feature = "testing"))]
pub(super) const fn found() {}
