use super::*;

/// RFC 6962 §2.1 as it is written: the tree that everything else is compared with.
pub(crate) fn naive_root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => hash::empty(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            hash::node(&naive_root(left), &naive_root(right))
        }
    }
}

/// The largest power of two below `n`.
pub(crate) fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// The leaf hashes of `n` different entries.
pub(crate) fn leaves(n: u64) -> Vec<Digest> {
    (0..n).map(|i| hash::leaf(&i.to_be_bytes())).collect()
}

/// The leaves and roots of the RFC 6962 reference implementation's tests.
#[test]
fn published_vectors() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Frontier::new();
    assert_eq!(tree.root().to_string(), roots[0]);
    for (input, root) in inputs.iter().zip(&roots[1..]) {
        tree.append(hash::leaf(input));
        assert_eq!(tree.root().to_string(), *root);
    }
}

#[test]
fn the_root_is_that_of_the_definition() {
    let leaves = leaves(300);
    let mut tree = Frontier::new();
    for (n, leaf) in leaves.iter().enumerate() {
        assert_eq!(tree.root(), naive_root(&leaves[..n]), "{n}");
        let again = Frontier::from_peaks(tree.size(), tree.peaks.clone()).unwrap();
        assert_eq!(again, tree);
        let mut completed = Vec::new();
        tree.append_with(*leaf, |height, hash| completed.push((height, *hash)));
        for (height, hash) in completed {
            let width = 1_usize << height;
            assert_eq!(hash, naive_root(&leaves[n + 1 - width..=n]), "{n} {height}");
        }
    }
    assert_eq!(Frontier::from_peaks(5, vec![hash::empty()]), None);
}
