import { defineConfig } from 'vite';

// In development the page comes from Vite and everything else from a running mds, or from dev/fake.mjs.
const server = process.env['MARKETFEED_UI_SERVER'] ?? 'http://127.0.0.1:8321';

export default defineConfig({
  base: './', // the page works under any prefix
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // no data: addresses, so that a strict content security policy holds
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': { target: server, ws: true } } },
});
