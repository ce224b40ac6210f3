//! Ways by which requests come from the kernel and answers go back.
//!
//! A transport decodes a request into an [`Op`](crate::op::Op), gives it to the [`Runner`](crate::runner::Runner)
//! together with a [`Reply`](crate::answer::Reply) of its own, and encodes the answer. It decides nothing.

pub(crate) mod fuser;
