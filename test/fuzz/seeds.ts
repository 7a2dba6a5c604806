// What each parser is given when all is well.

export const handshakes = [
  '[{"base_host_virt_addr":140420123459584,"size":134217728,"offset":0}]',
  '[{"base_host_virt_addr":140420123459584,"size":134217728,"offset":0,"page_size_kib":4096}]',
  '[{"base_host_virt_addr":139637976727552,"size":134217728,"offset":0,"page_size":2097152,"page_size_kib":2097152}]',
  '[ {"base_host_virt_addr": 140037120032768, "size": 8388608, "offset": 0, "page_size": 4096},\n' +
    '{"base_host_virt_addr": 140037145198592, "size": 4194304, "offset": 8388608, "page_size": 4096} ]',
  '["status"]',
];

const file = { device: '1', inode: '2', mtimeNs: '3', ctimeNs: '4' };
export const workingSets = [[0, 1], [3, 5, 10, 2, 90, 10], []].map((extents) =>
  JSON.stringify({
    format: 'uffd-working-set-1',
    snapshot: { sizeBytes: 409_600, sha256: 'a'.repeat(64), file },
    pageSize: 4096,
    extents,
  }),
);

export const smaps = [
  '7f0000000000-7f0000100000 rw-p 00000000 00:01 1234                       /memfd:uffd-backing (deleted)\n' +
    'Size:               1024 kB\nRss:                 512 kB\nAnonymous:           128 kB\nVmFlags: rd wr mr mw me um\n',
];

export const fdinfos = [
  'pos:\t0\nflags:\t02004000\nmnt_id:\t16\nino:\t1057\npending:\t0\ntotal:\t0\nAPI:\taa:0:80000000000001ff\n',
  'pos:\t0\nflags:\t02004000\nmnt_id:\t16\nino:\t1057\npending:\t3\ntotal:\t17\nAPI:\taa:80000108:80000000000001ff\n',
  'pos:\t0\nflags:\t02000000\nmnt_id:\t16\nino:\t1057\npending:\t1\ntotal:\t1\nAPI:\taa:80000000:80000000000003ff\n',
];
