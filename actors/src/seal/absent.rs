//! Stands in for the seal in a program that is built without it: no value of these types exists.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::BytesMut;
use heartbeat_core::Member;
use heartbeat_core::config::SealConfig;
use heartbeat_core::member::ProcessId;
use tokio::net::TcpStream;

use super::error::SealError;
use super::report::{MemberSeal, OpenError, Removal, SealCounts, SealVersions, StreamPurpose};

pub(crate) enum SealShared {}

pub(crate) enum Seal {}

pub(crate) enum SealHalf {}

pub(crate) enum OpenHalf {}

impl SealShared {
    pub(crate) fn open(_: &SealConfig, _: ProcessId) -> Result<SealShared, SealError> {
        Err(SealError::NotBuilt)
    }

    pub(crate) fn reload(&self, _: Removal) -> Result<bool, SealError> {
        match *self {}
    }

    pub(crate) fn set_members<'a>(&self, _: impl Iterator<Item = &'a Member>) {
        match *self {}
    }

    pub(crate) fn note(&self, _: &mut Seal) {
        match *self {}
    }

    pub(crate) fn refresh(&self, _: &mut Seal, _: &mut SealVersions) {
        match *self {}
    }

    pub(crate) fn seal(&self, _: usize) -> Result<Seal, SealError> {
        match *self {}
    }

    pub(crate) fn follow_files(&self, _: impl Fn() + Send + 'static) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn seals_for(&self, _: SocketAddr) -> bool {
        match *self {}
    }

    pub(crate) fn accepts_plain(&self) -> bool {
        match *self {}
    }

    pub(crate) fn published(&self) -> String {
        match *self {}
    }

    pub(crate) fn members(&self) -> Vec<MemberSeal> {
        match *self {}
    }

    pub(crate) fn counts(&self) -> SealCounts {
        match *self {}
    }
}

impl Seal {
    pub(crate) fn seal(&mut self, _: Option<ProcessId>, _: &[u8], _: impl FnMut(&[u8])) {
        match *self {}
    }

    pub(crate) fn open(&mut self, _: &mut [u8]) -> Result<Range<usize>, OpenError> {
        match *self {}
    }
}

impl SealHalf {
    pub(crate) fn seal(&mut self, _: &[u8], _: &mut Vec<u8>) {
        match *self {}
    }
}

impl OpenHalf {
    pub(crate) fn unread(&mut self) -> &mut BytesMut {
        match *self {}
    }

    pub(crate) fn open(&mut self, _: &mut BytesMut) -> io::Result<()> {
        match *self {}
    }
}

pub(crate) fn is_sealed_start(_: &[u8]) -> bool {
    false
}

pub(crate) fn is_sealed_preface(_: &[u8]) -> Option<StreamPurpose> {
    None
}

pub(crate) async fn open_sealed(
    _: &mut TcpStream,
    _: SocketAddr,
    _: StreamPurpose,
    shared: &SealShared,
) -> io::Result<(SealHalf, OpenHalf)> {
    match *shared {}
}

pub(crate) async fn accept_sealed(_: &mut TcpStream, shared: &SealShared) -> io::Result<(SealHalf, OpenHalf)> {
    match *shared {}
}
