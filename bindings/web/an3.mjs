import { transformSync } from "esbuild";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
const s = readFileSync("src/core.ts","utf8");
const g = (t)=>gzipSync(transformSync(t,{loader:"ts",minify:true,mangleProps:/^_./,target:"es2022"}).code,{level:9}).length;
const all=g(s);
const re=/\n  (async )?function (\w+)[\s\S]*?\n  }\n/g;
let m; const out=[];
while((m=re.exec(s))) { try { out.push([m[2], all-g(s.slice(0,m.index)+"\n"+s.slice(m.index+m[0].length))]); } catch(e){ out.push([m[2],"?"]);} }
console.log(all, out.sort((a,b)=>b[1]-a[1]).map(x=>x.join(":")).join(" "));
