// Bundles the dashboard into the folder that is named, or into the package: scripts, styles, the page, and the licences
// of what is bundled.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "../src/thunderline/prism/dashboard/static");

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
const common = {
  bundle: true,
  minify: true,
  target: "es2022",
  format: "esm",
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
};
const results = await Promise.all([
  build({
    ...common,
    entryPoints: {
      dashboard: join(here, "src/main.tsx"),
      "dashboard-layout": join(here, "src/drawing/layout.worker.ts"),
    },
    jsx: "automatic",
    jsxImportSource: "preact",
    outdir: target,
  }),
  // Before the first paint, so that no page flashes in the other theme: a plain script, no module.
  build({
    ...common,
    entryPoints: { "dashboard-theme": join(here, "src/theme.boot.ts") },
    format: "iife",
    outdir: target,
  }),
]);
await copyFile(join(here, "index.html"), join(target, "dashboard.html"));

const packages = new Set(
  results
    .flatMap((result) => Object.keys(result.metafile.inputs))
    .map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
    .filter(Boolean),
);
const licences = [];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const text = await readFile(join(folder, "LICENSE"), "utf8").catch(() =>
    readFile(join(folder, "LICENSE.md"), "utf8"),
  );
  licences.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
}
await writeFile(
  join(target, "dashboard-licenses.txt"),
  `The dashboard contains these packages.\n\n${licences.join(`\n${"-".repeat(80)}\n\n`)}`,
);
