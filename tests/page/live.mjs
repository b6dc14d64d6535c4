// The page of `dev` in a real browser: items are put, and their calls and rows appear.
//
//   node tests/page/live.mjs PLAYWRIGHT_DIR PROGRAM SCREENSHOT.png
import assert from 'node:assert/strict';
import { playwright, start, tab as open } from './dev.mjs';

const [directory, program, screenshot] = process.argv.slice(2);
const dev = await start(program, ['--views', 'views/orders.sql', '--table', 'orders=order_id']);
const page = new URL(dev.page).origin;

async function put(number, status, amount) {
  const item = { order_id: { S: `o-${number}` }, status: { S: status }, amount };
  await dev.put('orders', item);
}

const browser = await playwright(directory).launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const tab = await open(browser);
await put(0, 'PAID', { N: '5' });
await tab.goto(dev.page);
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
assert.equal(await dev.stop(), 0, dev.said);
assert.deepEqual(tab.errors, [], 'nothing on the console');
assert.ok(tab.asked.every(url => url.startsWith(page) || url.startsWith('data:')), `asked: ${tab.asked}`);
console.log('items put while the page is open: their calls and rows appear');
