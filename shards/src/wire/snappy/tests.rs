use proptest::prelude::*;

use super::*;

fn decompress(body: &[u8], bytes_max: usize, step: usize) -> Result<Vec<u8>, SnappyError> {
    // Memory of an earlier request, none of which may be seen.
    let mut out = vec![0xee; 300];
    out.clear();
    let mut unsnappy = Unsnappy::new(body, bytes_max)?;
    let mut steps_left = 10 + 2 * (body.len() + unsnappy.declared_bytes());
    while !unsnappy.run(body, &mut out, step)? {
        assert!(out.len() <= unsnappy.declared_bytes());
        steps_left = steps_left.checked_sub(1).expect("each step goes on");
    }
    Ok(out)
}

fn compress(text: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(text).unwrap()
}

/// What another implementation says.
fn reference(body: &[u8]) -> Option<Vec<u8>> {
    let declared = snap::raw::decompress_len(body).ok()?;
    if declared > body.len() * TEXT_PER_BYTE_MAX {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(body).ok()
}

fn block(declared: usize, elements: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    crate::wire::put_varint(&mut body, declared as u64);
    body.extend_from_slice(elements);
    body
}

#[test]
fn a_bomb_is_refused_before_memory_is_taken() {
    let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    bomb.extend([0; 100]);
    assert!(matches!(Unsnappy::new(&bomb, 1 << 20), Err(SnappyError::TooLarge { .. })));
    assert_eq!(Unsnappy::new(&bomb, usize::MAX).err(), Some(BlockError::Length.into()));
}

#[test]
fn the_densest_block_passes() {
    let text = vec![7u8; 4 << 20];
    assert_eq!(decompress(&compress(&text), 4 << 20, 1 << 17), Ok(text));
}

#[test]
fn each_error_says_what_is_wrong() {
    let of = |body: &[u8]| decompress(body, 1 << 20, 1 << 20);
    let error = |body: &[u8]| match of(body) {
        Err(SnappyError::Invalid(error)) => error,
        other => panic!("{body:?}: {other:?}"),
    };
    assert_eq!(error(&[]), BlockError::Empty);
    assert_eq!(error(&[0xff; 20]), BlockError::Length);
    assert_eq!(error(&[0x80, 0x80, 0x80, 0x80, 0x10]), BlockError::Length);
    assert_eq!(error(&[5, 0x01]), BlockError::Cut);
    assert_eq!(error(&[5, 0xf0]), BlockError::Cut);
    let literal = BlockError::Literal { bytes: 5, body_bytes: 2, text_bytes: 5 };
    assert_eq!(error(&[5, 0x10, 1, 2]), literal);
    assert_eq!(error(&[5, 0, 7, 0x01, 2]), BlockError::Offset { offset: 2, text_bytes: 1 });
    assert_eq!(error(&[5, 0, 7, 0x01, 0]), BlockError::Offset { offset: 0, text_bytes: 1 });
    assert_eq!(error(&[3, 0, 7, 0x01, 1]), BlockError::Copy { bytes: 4, text_bytes: 2 });
    assert_eq!(error(&[3, 0, 7]), BlockError::Short { text_bytes: 1, declared_bytes: 3 });
    assert_eq!(of(&[0]), Ok(Vec::new()));
}

#[test]
fn copies_of_all_kinds_offsets_and_lengths_are_right() {
    let seed: Vec<u8> = (1..=80).collect();
    for (offset, length, kind) in (1..=80usize)
        .flat_map(|offset| (1..=64usize).flat_map(move |length| [1, 2, 3].map(|kind| (offset, length, kind))))
    {
        let mut elements = vec![60 << 2, seed.len() as u8 - 1];
        elements.extend(&seed);
        let copy = match kind {
            1 if (4..12).contains(&length) => vec![(length as u8 - 4) << 2 | 1, offset as u8],
            1 => continue,
            2 => vec![(length as u8 - 1) << 2 | 2, offset as u8, 0],
            _ => vec![(length as u8 - 1) << 2 | 3, offset as u8, 0, 0, 0],
        };
        // At the very end of the block, and before a tail.
        for tail in [&[][..], &[9; 100]] {
            let mut elements = [&elements[..], &copy].concat();
            if !tail.is_empty() {
                elements.extend([60 << 2, 99]);
                elements.extend(tail);
            }
            let mut text = seed.clone();
            (0..length).for_each(|_| text.push(text[text.len() - offset]));
            text.extend(tail);
            let body = block(text.len(), &elements);
            assert_eq!(decompress(&body, 1 << 20, 1 << 20), Ok(text), "{offset} {length} {kind}");
        }
    }
}

#[test]
fn the_length_of_a_literal_may_take_up_to_four_bytes() {
    for (extra, length) in [(0, 60), (1, 61), (1, 256), (2, 257), (3, 70_000), (4, 70_000), (4, 1)] {
        let text: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let tag = if extra == 0 { length as u8 - 1 } else { 59 + extra as u8 };
        let mut elements = vec![tag << 2];
        elements.extend(&(length as u32 - 1).to_le_bytes()[..extra]);
        elements.extend(&text);
        for step in [1, 100, 1 << 20] {
            assert_eq!(decompress(&block(length, &elements), 1 << 20, step).as_ref(), Ok(&text));
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (prop::collection::vec(any::<u8>(), 1..40), 1usize..40).prop_map(|(text, times)| text.repeat(times)),
        prop::collection::vec(0u8..3, 0..300),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn text_comes_back_whatever_the_steps(text in texts(), step in 0usize..5000) {
        prop_assert_eq!(decompress(&compress(&text), text.len(), step), Ok(text));
    }

    #[test]
    fn damaged_blocks_end_as_with_another_implementation(
        text in texts(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
        step in 1usize..3000,
    ) {
        let mut body = compress(&text);
        for (index, byte) in edits {
            let at = index.index(body.len());
            body[at] = byte;
        }
        if is_cut {
            body.truncate(cut.index(body.len() + 1));
        }
        prop_assert_eq!(decompress(&body, usize::MAX, step).ok(), reference(&body));
    }

    #[test]
    fn random_elements_end_as_with_another_implementation(
        declared in 0usize..2000,
        elements in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..8], 0..300),
        step in 1usize..3000,
    ) {
        let body = block(declared, &elements);
        prop_assert_eq!(decompress(&body, usize::MAX, step).ok(), reference(&body));
    }
}
