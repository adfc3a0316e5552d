// Twin of src/ops/window.rs: a window that moves over images.
override H: u32 = 1u;
override W: u32 = 1u;
override HO: u32 = 1u;
override WO: u32 = 1u;
override KH: u32 = 1u;
override KW: u32 = 1u;
override SH: u32 = 1u;
override SW: u32 = 1u;
override PH: u32 = 0u;
override PW: u32 = 0u;
override DH: u32 = 1u;
override DW: u32 = 1u;

// No place: larger than any.
const NOWHERE: u32 = 0xFFFFFFFFu;

// The image's row under tap k of output row o, or NOWHERE.
fn image_row(o: u32, k: u32) -> u32 {
    let at = o * SH + k * DH;
    return select(NOWHERE, at - PH, at >= PH && at - PH < H);
}

fn image_col(o: u32, k: u32) -> u32 {
    let at = o * SW + k * DW;
    return select(NOWHERE, at - PW, at >= PW && at - PW < W);
}

// The output row whose tap k lies on image row i, or NOWHERE.
fn output_row(i: u32, k: u32) -> u32 {
    let at = i + PH - k * DH;
    let fits = i + PH >= k * DH && at % SH == 0u && at / SH < HO;
    return select(NOWHERE, at / SH, fits);
}

fn output_col(i: u32, k: u32) -> u32 {
    let at = i + PW - k * DW;
    let fits = i + PW >= k * DW && at % SW == 0u && at / SW < WO;
    return select(NOWHERE, at / SW, fits);
}
