// `changefold dev` as a process, and its page in a real browser, for the scripts beside this file.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

export function playwright(directory) {
  return createRequire(pathToFileURL(resolve(directory, 'x.js')))('playwright-core').chromium;
}

/** Starts it; what it has said, its addresses, and how to put an item. */
export async function start(program, args, options = {}) {
  const env = { ...process.env, ...options.env };
  const process_ = spawn(resolve(program), ['dev', '--port', '0', ...args], { cwd: options.cwd, env });
  // A script that fails leaves none behind.
  process.on('exit', () => process_.kill('SIGKILL'));
  const dev = { said: '', summary: '' };
  process_.stderr.on('data', data => { dev.said += data; });
  process_.stdout.on('data', data => { dev.summary += data; });
  const told = async pattern => {
    for (let wait = 0; wait < 600; wait += 1) {
      const match = dev.said.match(pattern);
      if (match) return match[1];
      await new Promise(done => setTimeout(done, 100));
    }
    throw new Error(`not told: ${pattern}\n${dev.said}`);
  };
  dev.endpoint = await told(/AWS_ENDPOINT_URL=(\S+)/);
  dev.page = await told(/the page is (\S+)/);
  dev.put = async (table, item) => {
    const answer = await fetch(dev.endpoint, {
      method: 'POST',
      headers: { 'x-amz-target': 'DynamoDB_20120810.PutItem', 'content-type': 'application/x-amz-json-1.0' },
      body: JSON.stringify({ TableName: table, Item: item }),
    });
    if (answer.status !== 200) throw new Error(await answer.text());
  };
  dev.stop = () => new Promise(done => { process_.on('exit', done); process_.kill('SIGTERM'); });
  return dev;
}

/** A tab that notes what it says on the console and whom it asks. */
export async function tab(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 1000 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.asked = [];
  page.on('console', message => page.errors.push(message.text()));
  page.on('pageerror', error => page.errors.push(String(error)));
  page.on('request', request => page.asked.push(request.url()));
  page.on('dialog', dialog => page.errors.push(`a dialog: ${dialog.message()}`));
  return page;
}

/** Goes there by Tab alone, as somebody without a mouse does. */
export async function reach(page, label, most = 80) {
  for (let step = 0; step < most; step += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate(label => {
      const it = document.activeElement;
      return (it.getAttribute('aria-label') ?? it.textContent ?? '').trim() === label;
    }, label);
    if (found) return;
  }
  throw new Error(`no Tab leads to ${label}`);
}
