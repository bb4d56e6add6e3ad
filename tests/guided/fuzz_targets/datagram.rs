//! Any bytes are a datagram or an error, and what is read can be walked through to its end.
#![no_main]

use heartbeat_core::wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = wire::decode(bytes) else { return };
    assert!(bytes.len() <= wire::DATAGRAM_BYTES_MAX);
    assert!(datagram.header.generation.0 <= wire::TIME_MAX);
    let rows: Vec<_> = datagram.rumours.iter().collect();
    assert_eq!(rows.len(), datagram.rumours.len());
    for details in rows.iter().filter_map(|row| row.details) {
        let profile = details.profile(1);
        assert!(!profile.name.is_empty());
        profile.groups.iter().for_each(|group| assert!(group.declined.len(group.count) <= group.count));
    }
});
