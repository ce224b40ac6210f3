//! For how long an object and its descriptor stay.

pub(super) mod held;
pub(super) mod home;
