// What one can do from the page of `dev`, by keyboard alone: look at parked records, redrive and
// drop them, pause and step, make calls fail, put an item; and what a function in Python does with
// one poison record in a hundred.
//
//   node tests/page/actions.mjs PLAYWRIGHT_DIR CHANGEFOLD ORDERS PYTHON SCREENSHOTS_DIR
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { playwright, reach, start, tab } from './dev.mjs';

const [directory, changefold, orders, python, screenshots] = process.argv.slice(2);
const browser = await playwright(directory).launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const scratch = mkdtempSync(join(tmpdir(), 'changefold-page-'));

function quiet(page, dev) {
  const own = new URL(dev.page).origin;
  assert.deepEqual(page.errors, [], 'nothing on the console');
  assert.ok(page.asked.every(url => url.startsWith(own) || url.startsWith('data:')), `asked: ${page.asked}`);
}

/** A request that a browser would not send for this page. */
const ask = (dev, headers, body = '{"action":"pause"}') => new Promise((done, failed) => {
  const { port } = new URL(dev.page);
  const asked = request({ port, path: '/actions', method: 'POST', headers }, answer => {
    answer.resume();
    answer.on('end', () => done(answer.statusCode));
  });
  asked.on('error', failed);
  asked.end(body);
});

// --- parked records of a processor, over a restart -----------------------------------------------
async function parked() {
  const args = ['--table', 'orders=order_id', '--state', join(scratch, 'state'), '--quiet'];
  let dev = await start(orders, args);
  let page = await tab(browser);
  await page.goto(dev.page);
  const order = (id, amount) => dev.put('orders', { order_id: { S: id }, status: { S: 'PAID' }, amount });
  await order('o1', { N: '5' });
  await order('o2', { S: '12,50' });
  await order('o2', { N: '13' });
  await order('o3', { BOOL: true });
  const row = name => page.locator('section:has(#parked) tbody tr', { hasText: name });
  await row('order_id=o2').waitFor({ timeout: 30000 });
  await row('order_id=o3').waitFor({ timeout: 30000 });
  await page.waitForFunction(() => [...document.querySelectorAll('tbody tr')]
    .some(row => row.cells[0].textContent === 'order_id=o2' && row.cells[4].textContent === '1'), undefined, { timeout: 30000 });
  const outcome = page.locator('section:has(#parked) > p[role=status]');

  await reach(page, 'show order_id=o2');
  await page.keyboard.press('Enter');
  await page.locator('pre', { hasText: '12,50' }).waitFor();
  await reach(page, 'redrive order_id=o2');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /BadAmount: an amount that is no number/.test(document.body.innerText));
  assert.match(await outcome.innerText(), /0 redriven, 2 left/);
  // Dropping takes two presses.
  await reach(page, 'drop order_id=o3');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /o3: 1 dropped, 0 left/.test(document.body.innerText));
  await row('order_id=o3').waitFor({ state: 'detached', timeout: 20000 });
  quiet(page, dev);
  assert.equal(await dev.stop(), 0, dev.said);

  // The same state with the mended program.
  dev = await start(orders, args, { env: { SHOP_READS_COMMAS: '1' } });
  page = await tab(browser, { colorScheme: 'dark' });
  await page.goto(dev.page);
  // Rows are read when the function has worked, or when the page is opened.
  await row('order_id=o2').waitFor({ timeout: 30000 });
  await reach(page, 'redrive order_id=o2');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /o2: 2 redriven, 0 left/.test(document.body.innerText));
  await page.getByText('Nothing is parked.').waitFor({ timeout: 20000 });
  quiet(page, dev);
  assert.equal(await dev.stop(), 0, dev.said);
  console.log('parked records: shown, redriven in vain, dropped, and redriven by the mended program');
}

// --- a function in Python, with one poison record in a hundred ------------------------------------
async function poison() {
  const of_function = ['--exec', python, '--exec-arg', '-m', '--exec-arg', 'awslambdaric', '--exec-arg', 'recorder.handler'];
  const settings = ['--set', 'MaximumRetryAttempts=0', '--set', 'BatchSize=32'];
  const args = [...of_function, ...settings, '--table', 'things=id', '--stream', 'clicks=2'];
  const env = { RECORD_TO: join(scratch, 'recorded') };
  const dev = await start(changefold, args, { cwd: 'tests/dev/functions', env });
  const page = await tab(browser);
  await page.goto(dev.page);
  assert.equal(new URL(page.url()).hash, '', 'the token leaves the address bar');
  const status = text => page.waitForFunction(text => document.body.innerText.includes(text), text, { timeout: 30000 });

  // In a pause a call waits, with its batch; what comes meanwhile is in the next one.
  await reach(page, 'Pause');
  await page.keyboard.press('Enter');
  await status('Paused: 0 calls wait.');
  const item = number => ({ id: { S: `id-${number}` }, n: { N: String(number) },
    ...(number % 100 === 37 ? { does: { S: 'raise' } } : {}) });
  for (let number = 0; number < 200; number += 1) await dev.put('things', item(number));
  await status('Paused: 1 call waits.');
  assert.equal(await page.locator('.calls button').count(), 0, 'no call begins in a pause');
  await reach(page, 'Next call');
  await page.keyboard.press('Enter');
  await page.locator('.calls button').first().waitFor({ timeout: 30000 });
  await status('Paused: 1 call waits.');
  assert.equal(await page.locator('.calls button').count(), 1, 'one step is one call');
  await reach(page, 'Resume');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelectorAll('#discarded tbody tr').length === 2, undefined, { timeout: 60000 });

  // What a failing batch was cut into, down to the record that is poison.
  await page.waitForFunction(() => document.querySelector('#figures').textContent.includes('198'), undefined, { timeout: 30000 });
  const calls = await page.locator('.calls button').evaluateAll(all => all.map(one => one.dataset.as));
  assert.ok(calls.filter(as => as === 'fail').length >= 6, `${calls}`);
  await page.evaluate(() => document.activeElement.blur());
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate(() => Boolean(document.activeElement.closest('.calls')))) break;
  }
  await page.keyboard.press('Home');
  for (let step = 0; step < calls.indexOf('fail'); step += 1) await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Enter');
  const tree = await page.locator('#detail li').allInnerTexts();
  assert.ok(tree.some(line => /^1 record failed.*ValueError: number \d*37 is poison/.test(line)), tree.join('\n'));
  assert.ok(tree.some(line => /^\d\d records failed/.test(line)), tree.join('\n'));
  assert.match(await page.locator('.standing').first().innerText(), /checkpoint \d{21}.*iterator age/);

  // Light and dark, looked at by people.
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(screenshots, `actions-${colorScheme}.png`), fullPage: true });
    // That of the README.
    if (colorScheme === 'light') await page.screenshot({ path: join(screenshots, 'readme.png'), clip: { x: 0, y: 0, width: 1200, height: 890 } });
  }

  // What happens to the next call is said beforehand; a lone record is given up then.
  for (const [fault, message, number] of [['fail', 'the function has failed', 1001], ['crash', 'process has ended', 1002]]) {
    // More than ten lines a second are told together.
    await page.waitForTimeout(1200);
    await reach(page, fault);
    await page.keyboard.press('Enter');
    await status(`The next calls: ${fault}.`);
    await dev.put('things', item(number));
    await page.waitForFunction(count => document.querySelectorAll('#discarded tbody tr').length === count, number - 998, { timeout: 30000 });
    await page.waitForFunction(() => !document.body.innerText.includes('The next calls:'));
    assert.ok(dev.said.includes(message), dev.said);
  }

  // The form: an item, what is none, and a record.
  await reach(page, 'Put an item or a record');
  await page.keyboard.press('Enter');
  const put = async (index, text, says) => {
    await page.locator('form select').focus();
    for (let step = 0; step < 3; step += 1) await page.keyboard.press('ArrowUp');
    for (let step = 0; step < index; step += 1) await page.keyboard.press('ArrowDown');
    await page.locator('form textarea').focus();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(text);
    await reach(page, 'Put');
    await page.keyboard.press('Enter');
    await status(says);
  };
  assert.equal(await page.locator('form textarea').inputValue(), '{\n "id": {\n  "S": ""\n }\n}');
  await put(0, '{"id": {"S": "by-hand"}, "n": {"N": "7"}}', 'Put into things');
  await put(0, '{"id": 7}', 'this is no item in DynamoDB’s JSON'.replace('’', '\''));
  await put(1, '{"key": "k", "n": 8}', 'Put into clicks');
  await page.locator('.shard', { hasText: 'clicks' }).waitFor({ timeout: 30000 });

  // Who has no token, or is another page, may not act.
  const token = new URL(dev.page).hash.slice(1);
  const json = { 'content-type': 'application/json' };
  const own = { ...json, 'x-changefold-token': token };
  assert.equal(await ask(dev, json), 403);
  assert.equal(await ask(dev, { ...json, 'x-changefold-token': `${token.slice(1)}0` }), 403);
  assert.equal(await ask(dev, { ...own, origin: 'http://evil.example' }), 403);
  assert.equal(await ask(dev, { ...own, host: 'evil.example' }), 403);
  assert.equal(await ask(dev, { 'x-changefold-token': token }), 415);
  assert.equal(await ask(dev, own, '{"action":"explode"}'), 400);
  assert.equal(await ask(dev, own, '{"action":"resume"}'), 200, 'the control');
  const guest = await tab(browser);
  await guest.goto(new URL(dev.page).origin);
  await guest.getByText('This page only shows.').waitFor();
  assert.equal(await guest.getByText('Pause').count(), 0);
  quiet(guest, dev);
  quiet(page, dev);
  assert.equal(await dev.stop(), 3, dev.said);
  assert.match(dev.summary, /things: 203 records in /);
  console.log(`a function in Python: ${dev.summary.split('\n')[0]}`);
}

try {
  await parked();
  await poison();
} finally {
  await browser.close();
  rmSync(scratch, { recursive: true });
}
