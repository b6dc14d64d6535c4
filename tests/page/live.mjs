// The page of `dev` in a real browser: items are put, and their calls and rows appear.
//
//   node tests/page/live.mjs PLAYWRIGHT_DIR PROGRAM SCREENSHOT.png
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';

const [directory, program, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(pathToFileURL(resolve(directory, 'x.js')))('playwright-core');

const dev = spawn(program, ['dev', '--port', '0', '--views', 'views/orders.sql', '--table', 'orders=order_id']);
let told = '';
dev.stderr.on('data', data => { told += data; });
const found = async pattern => {
  for (let wait = 0; wait < 300; wait += 1) {
    const match = told.match(pattern);
    if (match) return match[1];
    await new Promise(done => setTimeout(done, 100));
  }
  throw new Error(`not told: ${pattern}\n${told}`);
};
const endpoint = await found(/AWS_ENDPOINT_URL=(\S+)/);
const page = await found(/the page is (\S+)/);

async function put(number, status, amount) {
  const item = { order_id: { S: `o-${number}` }, status: { S: status }, amount };
  const answer = await fetch(endpoint, {
    method: 'POST',
    headers: { 'x-amz-target': 'DynamoDB_20120810.PutItem', 'content-type': 'application/x-amz-json-1.0' },
    body: JSON.stringify({ TableName: 'orders', Item: item }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const tab = await browser.newPage({ viewport: { width: 1200, height: 900 } });
const errors = [], requests = [];
tab.on('console', message => errors.push(message.text()));
tab.on('pageerror', error => errors.push(String(error)));
tab.on('request', request => requests.push(request.url()));
await put(0, 'PAID', { N: '5' });
await tab.goto(page);
const row = text => tab.locator('#views tr', { hasText: text }).first();
await row('PAID').waitFor({ timeout: 20000 });
for (let number = 1; number < 5; number += 1) await put(number, 'SHIPPED', { N: '2.50' });
await put(5, '<img src=x onerror=alert(1)>', { N: '1' });
await tab.waitForFunction(() => [...document.querySelectorAll('#views tr')].some(row =>
  row.cells[0].textContent === 'SHIPPED' && row.cells[1].textContent === '4'), { timeout: 20000 });
await row('<img src=x onerror=alert(1)>').waitFor({ timeout: 20000 });
assert.ok(await tab.locator('.calls button').count() >= 2, 'calls are drawn as they end');
assert.equal(await tab.locator('img').count(), 0, 'what producers say is text');
await tab.screenshot({ path: screenshot });

// Another name of this machine's address is no way in.
const other = await new Promise((done, failed) => {
  import('node:http').then(({ get }) => get(page, { headers: { host: 'evil.example' } }, answer => done(answer.statusCode)).on('error', failed));
});
assert.equal(other, 403);
await browser.close();
dev.kill('SIGTERM');
const code = await new Promise(done => dev.on('exit', done));
assert.equal(code, 0, told);
assert.deepEqual(errors, [], 'nothing on the console');
assert.ok(requests.every(url => url.startsWith(page) || url.startsWith('data:')), `asked: ${requests}`);
console.log('items put while the page is open: their calls and rows appear');
