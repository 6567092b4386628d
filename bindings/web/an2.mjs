import { build } from "esbuild";
import { gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
const r = await build({entryPoints:["src/index.ts"],bundle:true,minify:true,format:"esm",target:"es2022",mangleProps:/^_./,write:false});
const t = r.outputFiles[0].text;
const g = (s) => gzipSync(s,{level:9}).length;
console.log("total", t.length, g(t));
// strings
const strs = t.match(/"[^"\n]{12,}"|`[^`]{20,}`/g);
let u = t; for (const s of strs) u = u.replace(s,'""');
console.log("without long strings", u.length, g(u), strs.length);
const tab = t.slice(0, t.indexOf("}")); console.log("table", g(tab), tab.length);
for (const s of strs) if (s.length>40) console.log(s.length, g(t)-g(t.replace(s,'""')), s.slice(0,90));
