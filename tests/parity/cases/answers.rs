//! Answers: of each type, in order, and by a future that others wait for.

use std::collections::BTreeSet;
use std::ops::Mul;

use actix::prelude::*;
use futures_util::future::join_all;

use super::world::{Context, run};
use crate::tally::millis;

/// Answers each kind of message with another type.
#[derive(Default)]
struct Register {
    ids: BTreeSet<u32>,
    total: u64,
}

impl Actor for Register {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Nothing;

#[derive(Message)]
#[rtype(result = "Result<u32, String>")]
struct Enter(u32);

#[derive(Message)]
#[rtype(usize)]
struct Count;

#[derive(Message)]
#[rtype(result = "Vec<u32>")]
struct List;

#[derive(Message)]
#[rtype(result = "Option<u32>")]
struct Find(u32);

#[derive(MessageResponse, PartialEq, Debug)]
struct Product(u32);

#[derive(Message)]
#[rtype(Product)]
struct Multiply(u32, u32);

#[derive(MessageResponse, PartialEq, Debug)]
struct Generic<T: 'static + Mul>(T);

#[derive(Message)]
#[rtype(result = "Generic<u64>")]
struct MultiplyAny(u64, u64);

#[derive(Message)]
#[rtype(result = "u64")]
struct AddSlowly(u64);

impl Handler<Nothing> for Register {
    type Result = ();

    fn handle(&mut self, _: Nothing, _: &mut Context<Self>) {}
}

impl Handler<Enter> for Register {
    type Result = Result<u32, String>;

    fn handle(&mut self, enter: Enter, _: &mut Context<Self>) -> Result<u32, String> {
        if self.ids.insert(enter.0) { Ok(enter.0) } else { Err("it is there already".into()) }
    }
}

impl Handler<Count> for Register {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> usize {
        self.ids.len()
    }
}

impl Handler<List> for Register {
    type Result = Vec<u32>;

    fn handle(&mut self, _: List, _: &mut Context<Self>) -> Vec<u32> {
        self.ids.iter().copied().collect()
    }
}

impl Handler<Find> for Register {
    type Result = Option<u32>;

    fn handle(&mut self, find: Find, _: &mut Context<Self>) -> Option<u32> {
        self.ids.get(&find.0).copied()
    }
}

impl Handler<Multiply> for Register {
    type Result = Product;

    fn handle(&mut self, factors: Multiply, _: &mut Context<Self>) -> Product {
        Product(factors.0 * factors.1)
    }
}

impl Handler<MultiplyAny> for Register {
    type Result = Generic<u64>;

    fn handle(&mut self, factors: MultiplyAny, _: &mut Context<Self>) -> Generic<u64> {
        Generic(factors.0 * factors.1)
    }
}

impl Handler<AddSlowly> for Register {
    type Result = AtomicResponse<Self, u64>;

    fn handle(&mut self, add: AddSlowly, _: &mut Context<Self>) -> AtomicResponse<Self, u64> {
        let pause = tokio::time::sleep(millis(add.0)).into_actor(self);
        AtomicResponse::new(Box::pin(pause.map(move |(), register, _| {
            register.total += add.0;
            register.total
        })))
    }
}

// response_derive_empty
#[test]
fn an_answer_may_be_empty() {
    run(async |world| {
        let register = world.start(Register::default());
        assert!(register.send(Nothing).await.is_ok());
    });
}

// derive_result
#[test]
fn an_answer_may_be_a_result() {
    run(async |world| {
        let register = world.start(Register::default());
        assert_eq!(register.send(Enter(7)).await.unwrap(), Ok(7));
    });
}

// response_derive_one
#[test]
fn an_answer_may_be_a_number() {
    run(async |world| {
        let register = world.start(Register::default());
        assert_eq!(register.send(Count).await.unwrap(), 0);
    });
}

// derive_response_one
#[test]
fn an_answer_may_be_a_type_of_ones_own() {
    run(async |world| {
        let register = world.start(Register::default());
        assert_eq!(register.send(Multiply(6, 7)).await.unwrap(), Product(42));
    });
}

// derive_response_two
#[test]
fn an_answer_may_be_generic() {
    run(async |world| {
        let register = world.start(Register::default());
        assert_eq!(register.send(MultiplyAny(6, 7)).await.unwrap(), Generic(42));
    });
}

// test_different_message_result_types
#[test]
fn one_actor_answers_with_many_types() {
    run(async |world| {
        let register = world.start(Register::default());
        assert_eq!(register.send(Enter(3)).await.unwrap(), Ok(3));
        assert_eq!(register.send(Enter(5)).await.unwrap(), Ok(5));
        assert!(register.send(Enter(3)).await.unwrap().is_err());
        assert_eq!(register.send(Count).await.unwrap(), 2);
        assert_eq!(register.send(List).await.unwrap(), [3, 5]);
        assert_eq!(register.send(Find(5)).await.unwrap(), Some(5));
        assert_eq!(register.send(Find(4)).await.unwrap(), None);
    });
}

// test_atomic_response
#[test]
fn an_atomic_answer_holds_up_the_messages_behind_it() {
    run(async |world| {
        let register = world.start(Register::default());
        world.pass(millis(0)).await;
        let begun = world.elapsed();
        let answers = join_all([40, 30, 20, 10].map(|time| register.send(AddSlowly(time)))).await;
        let totals: Vec<u64> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(totals, [40, 70, 90, 100]);
        assert!(world.elapsed() - begun >= millis(100));
    });
}
