meta:
  id: mroi
  title: Medical volume with a region of interest
  file-extension: mroi
  license: MIT
  endian: le
  encoding: UTF-8
doc: |
  The structures of an `.mroi` file, version 1. Fields have the names of the tables in the specification
  (`mroi-1.md`), which says what they mean.

  Checked here: magics, reserved fields of fixed size, the version, where every part starts and ends.
  Not checked here: CRCs (PFX-4, FRM-1, FRM-6) and digests; the sync word of each frame (FRM-2); that padding and
  `reserved` bytes of variable size are zero; the order of frames and which ones there must be (section 3); sums,
  counts and offsets (IDX-2, IDX-5, FOT-2, FOT-3); the ranges of fields; JSON; compressed payloads, which stay bytes,
  and so does `dCMh`, because it may be compressed; anything after FOOT (LAY-1). A file that parses here may be invalid.
doc-ref: mroi-1.md
seq:
  - id: prefix
    type: prefix
  - id: frames
    type: frame
    repeat: until
    repeat-until: _.header.type == "FOOT"
types:
  prefix:
    seq:
      - id: magic
        contents: [0x89, 0x4d, 0x52, 0x4f, 0x49, 0x0d, 0x0a, 0x0a]
      - id: version_major
        type: u1
        valid: 1
      - id: version_minor
        type: u1
      - id: prefix_size
        type: u2
      - id: head_size
        type: u4
      - id: incompat_flags
        type: u8
      - id: compat_flags
        type: u8
      - id: autoclear_flags
        type: u4
      - id: sync
        type: u4
      - id: index_offset
        type: u8
      - id: file_size
        type: u8
      - id: checksum_id
        type: u1
        valid: 1
      - id: reserved
        contents: [0, 0, 0]
      - id: extra
        size: prefix_size - 64
      - id: prefix_crc
        type: u4
  frame:
    seq:
      - id: header
        type: frame_header
      - id: payload
        size: header.length
        type:
          switch-on: header.type
          cases:
            '"rOIB"': roi_record
            '"GEOM"': geom
            '"CODC"': codec_table
            '"SLSC"': slice_rescale
            '"INDX"': index
            '"FOOT"': footer
            '"dIGE"': digest
            '"sLPo"': slice_positions
            '"oVRW"': overview
      - id: padding
        size: (8 - header.length % 8) % 8
  frame_header:
    seq:
      - id: sync
        type: u4
      - id: type
        type: str
        size: 4
        encoding: ASCII
      - id: length
        type: u8
      - id: ordinal
        type: u4
      - id: codec_slot
        type: u1
      - id: flags
        type: u1
      - id: reserved
        type: u2
        valid: 0
      - id: payload_crc
        type: u4
      - id: header_crc
        type: u4
  roi_record:
    seq:
      - id: bounds
        type: s2
        repeat: expr
        repeat-expr: 6
      - id: shape
        type: s2
        repeat: expr
        repeat-expr: 3
      - id: matrix
        type: f4
        repeat: expr
        repeat-expr: 9
  geom:
    seq:
      - id: size
        type: u2
      - id: ndim
        type: u1
      - id: slice_axis
        type: u1
      - id: datatype
        type: u2
      - id: itemsize
        type: u1
      - id: bits_stored
        type: u1
      - id: shape
        type: u8
        repeat: expr
        repeat-expr: 7
      - id: roi_start
        type: u8
        repeat: expr
        repeat-expr: 3
      - id: roi_stop
        type: u8
        repeat: expr
        repeat-expr: 3
      - id: chunk_shape
        type: u4
        repeat: expr
        repeat-expr: 4
      - id: background
        type: u1
      - id: source_kind
        type: u1
      - id: source_flags
        type: u1
      - id: xyzt_units
        type: u1
      - id: xform_code
        type: s2
      - id: reserved
        contents: [0, 0]
      - id: slope
        type: f8
      - id: inter
        type: f8
      - id: spacing
        type: f8
        repeat: expr
        repeat-expr: 7
      - id: affine
        type: f8
        repeat: expr
        repeat-expr: 12
      - id: fill
        size: 32
      - id: roi_chunks
        type: u4
      - id: background_chunks
        type: u4
      - id: extra
        size: size - 344
  codec_table:
    seq:
      - id: count
        type: u2
      - id: reserved
        type: u2
        valid: 0
      - id: reserved2
        type: u4
        valid: 0
      - id: entries
        type: codec_entry
        repeat: expr
        repeat-expr: count
  codec_entry:
    seq:
      - id: codec_id
        type: u2
      - id: fidelity
        type: u1
      - id: flags
        type: u1
      - id: name_size
        type: u1
      - id: role
        type: u1
      - id: bitstream_version
        type: u2
      - id: params_size
        type: u4
      - id: reserved
        type: u4
        valid: 0
      - id: name
        size: name_size
      - id: params
        size: params_size
      - id: padding
        size: (8 - (name_size + params_size) % 8) % 8
  slice_rescale:
    seq:
      - id: pairs
        type: rescale_pair
        repeat: eos
  rescale_pair:
    seq:
      - id: slope
        type: f8
      - id: inter
        type: f8
  index:
    seq:
      - id: header
        type: index_header
      - id: entries
        type:
          switch-on: header.entry_size
          cases:
            8: index_entry_8
            16: index_entry_16
        repeat: expr
        repeat-expr: header.count
  index_header:
    seq:
      - id: count
        type: u4
      - id: entry_size
        type: u1
      - id: flags
        type: u1
      - id: reserved
        type: u2
        valid: 0
      - id: first
        type: u8
      - id: end
        type: u8
      - id: reserved2
        type: u8
        valid: 0
  index_entry_8:
    seq:
      - id: length
        type: u4
      - id: decoded_crc
        type: u4
  index_entry_16:
    seq:
      - id: length
        type: u8
      - id: decoded_crc
        type: u4
      - id: reserved
        type: u4
        valid: 0
  footer:
    seq:
      - id: index_offset
        type: u8
      - id: file_size
        type: u8
      - id: head_digest
        size: 8
      - id: magic
        contents: [0x0a, 0x0a, 0x0d, 0x49, 0x4f, 0x52, 0x4d, 0x89]
  digest:
    seq:
      - id: algorithm
        type: u1
        valid: 1
      - id: scope
        type: u1
      - id: reserved
        contents: [0, 0, 0, 0, 0, 0]
      - id: sha256
        size: 32
  overview:
    seq:
      - id: header
        type: overview_header
      - id: bitstream
        size-eos: true
  overview_header:
    seq:
      - id: factor
        type: u1
        repeat: expr
        repeat-expr: 3
      - id: method
        type: u1
      - id: codec_slot
        type: u1
      - id: reserved
        contents: [0, 0, 0]
      - id: volumes
        type: u4
      - id: decoded_crc
        type: u4
  slice_positions:
    seq:
      - id: positions
        type: position
        repeat: eos
  position:
    seq:
      - id: xyz
        type: f8
        repeat: expr
        repeat-expr: 3
