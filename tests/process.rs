//! Processes that tests and benches start: each ends with the value that owns it.

use std::ops::{Deref, DerefMut};
use std::process::Child;

/// A child process. Dropping it kills the process, also a stopped one, and waits for its end.
///
/// In a struct it stands before the folder that its process uses: fields are dropped in order.
#[derive(Debug)]
pub struct ChildGuard(Child);

impl From<Child> for ChildGuard {
    fn from(child: Child) -> ChildGuard {
        ChildGuard(child)
    }
}

impl Deref for ChildGuard {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for ChildGuard {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill(); // It may have ended already.
        let _ = self.0.wait();
    }
}
