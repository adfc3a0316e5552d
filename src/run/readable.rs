//! What one readback can be asked for, and how its answer is taken apart.

use crate::error::{Error, Result};
use crate::graph::Handle;
use crate::ops::Value;
use crate::tensor::{Content, Host};

/// What [`Session::read`](super::Session::read) can be asked for. Handles are, and tuples, lists
/// and options of what is; a struct of handles can be, by asking and taking field by field in the
/// same order.
pub trait Readable {
    /// What comes back.
    type Output;

    /// Says which buffers it wants.
    fn ask(&self, requests: &mut Requests);

    /// Takes what it asked for.
    ///
    /// # Errors
    /// [`Error::Setting`] if it takes more than it has asked for.
    fn take(&self, answers: &mut Answers) -> Result<Self::Output>;
}

/// What is to be read back.
#[derive(Debug, Default)]
pub struct Requests {
    pub(super) values: Vec<Value>,
}

/// What was read back and nobody has taken yet.
#[derive(Debug)]
pub struct Answers {
    hosts: std::vec::IntoIter<Host>,
}

impl Answers {
    pub(super) fn new(hosts: Vec<Host>) -> Self {
        Self {
            hosts: hosts.into_iter(),
        }
    }
}

impl<T: Content> Readable for Handle<T> {
    type Output = T::Read;

    fn ask(&self, requests: &mut Requests) {
        requests.values.push(self.value());
    }

    fn take(&self, answers: &mut Answers) -> Result<T::Read> {
        let host = answers.hosts.next();
        let read = host.and_then(|host| T::read(host, self.elements()));
        read.ok_or_else(|| {
            let wanted = "what was asked for, in the order of asking";
            Error::setting("answers", "others than were asked for", wanted)
        })
    }
}

impl<R: Readable> Readable for &R {
    type Output = R::Output;

    fn ask(&self, requests: &mut Requests) {
        R::ask(self, requests);
    }

    fn take(&self, answers: &mut Answers) -> Result<R::Output> {
        R::take(self, answers)
    }
}

impl<R: Readable> Readable for Option<R> {
    type Output = Option<R::Output>;

    fn ask(&self, requests: &mut Requests) {
        if let Some(some) = self {
            some.ask(requests);
        }
    }

    fn take(&self, answers: &mut Answers) -> Result<Self::Output> {
        self.as_ref().map(|some| some.take(answers)).transpose()
    }
}

impl<R: Readable> Readable for [R] {
    type Output = Vec<R::Output>;

    fn ask(&self, requests: &mut Requests) {
        self.iter().for_each(|one| one.ask(requests));
    }

    fn take(&self, answers: &mut Answers) -> Result<Self::Output> {
        self.iter().map(|one| one.take(answers)).collect()
    }
}

impl<R: Readable> Readable for &[R] {
    type Output = Vec<R::Output>;

    fn ask(&self, requests: &mut Requests) {
        <[R]>::ask(self, requests);
    }

    fn take(&self, answers: &mut Answers) -> Result<Self::Output> {
        <[R]>::take(self, answers)
    }
}

impl<R: Readable> Readable for Vec<R> {
    type Output = Vec<R::Output>;

    fn ask(&self, requests: &mut Requests) {
        <[R]>::ask(self, requests);
    }

    fn take(&self, answers: &mut Answers) -> Result<Self::Output> {
        <[R]>::take(self, answers)
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => {
        $(
            #[allow(non_snake_case)]
            impl<$($name: Readable),+> Readable for ($($name,)+) {
                type Output = ($($name::Output,)+);

                fn ask(&self, requests: &mut Requests) {
                    let ($($name,)+) = self;
                    $($name.ask(requests);)+
                }

                fn take(&self, answers: &mut Answers) -> Result<Self::Output> {
                    let ($($name,)+) = self;
                    Ok(($($name.take(answers)?,)+))
                }
            }
        )+
    };
}
tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}
