// The page of a run in a real browser: what it draws, by keyboard alone, and that it asks nobody.
//
//   node tests/page/report.mjs PLAYWRIGHT_DIR PAGE.html SCREENSHOT.png
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';

const [directory, page, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(pathToFileURL(resolve(directory, 'x.js')))('playwright-core');
const html = readFileSync(page, 'utf8');
const data = JSON.parse(html.split('type="application/json">')[1].split('</script>')[0]);

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const errors = [], requests = [];
for (const colorScheme of ['dark', 'light']) {
  const context = await browser.newContext({ colorScheme, viewport: { width: 1200, height: 1100 } });
  const tab = await context.newPage();
  tab.on('console', message => errors.push(message.text()));
  tab.on('pageerror', error => errors.push(String(error)));
  tab.on('request', request => requests.push(request.url()));
  tab.on('dialog', dialog => errors.push(`a dialog: ${dialog.message()}`));
  await tab.goto(pathToFileURL(resolve(page)).href);
  const marks = await tab.locator('.calls button').count();
  assert.equal(marks, data.calls.length, 'a mark for each call');
  assert.ok(data.calls.some(call => call.outcome === 'failed'), 'the run has failed calls');
  assert.equal(await tab.locator('.shard').count(), data.shards.length);

  // Keyboard alone: the first call of the first shard, then on to one that failed, and Enter.
  await tab.keyboard.press('Tab');
  await tab.waitForFunction(() => document.activeElement.closest('.calls'));
  const calls = data.calls.filter(call => call.shard === data.shards[0].name);
  const failed = calls.findIndex(call => call.outcome === 'failed');
  assert.ok(failed >= 0, 'the first shard has a failed call');
  for (let step = 0; step < failed; step += 1) await tab.keyboard.press('ArrowRight');
  await tab.keyboard.press('Enter');
  const detail = await tab.locator('#detail').innerText();
  assert.ok(detail.includes(`records from ${calls[failed].first} to ${calls[failed].last}`), detail);
  assert.match(detail, /calls dealt with this batch/);
  assert.ok(await tab.locator('#detail li').count() > 1, 'what the batch was cut into');

  // The rows of every view, as they stand in the data.
  for (const [at, view] of data.views.entries()) {
    const summary = tab.locator('#views summary').nth(at);
    await summary.press('Enter');
    const cells = await tab.locator('#views table').nth(at).locator('tbody td').allInnerTexts();
    assert.deepEqual(cells, view.rows.flat().map(cell => cell ?? 'NULL'));
  }
  if (colorScheme === 'light') await tab.screenshot({ path: screenshot });
  await context.close();
}
await browser.close();
assert.deepEqual(errors, [], 'nothing on the console');
assert.ok(requests.every(url => url.startsWith('file:') || url.startsWith('data:')), `asked: ${requests}`);
console.log(`${data.calls.length} calls in ${data.shards.length} shards drawn, ${data.views.length} views`);
