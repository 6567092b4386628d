import { build } from "/work/wt/web/bindings/web/node_modules/esbuild/lib/main.js";
import { gzipSync } from "node:zlib";
const r = await build({entryPoints:["src/index.ts"],bundle:true,minify:true,format:"esm",target:"es2022",mangleProps:/^_./,metafile:true,write:false});
console.log(Object.values(r.metafile.outputs)[0].inputs, gzipSync(r.outputFiles[0].contents,{level:9}).length);
