//! The dashboard in a real browser: what a stranger reads on it, and what it never does.
//!
//! Where Chromium or its driver are missing these tests say so and test nothing, unless
//! `HEARTBEAT_PAGES=required`. They run one after the other, and end each process they start, also
//! when they fail. With `HEARTBEAT_SHOTS=FOLDER` they write pictures of the page there, to look at.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod browser;
mod node;

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use actix_rt::time::sleep;
use heartbeat_actors::WorkerSpec;
use heartbeat_actors::group::GroupSpec;
use serde_json::Value;

use browser::{Browser, ENTER, ESCAPE, TAB};
use node::{Fail, Hold, Holder, Process, cluster, free, start};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a whole test may take.
const WHOLE: Duration = Duration::from_secs(120);

/// The token of the node that wants one.
const TOKEN: &str = "0123456789abcdef";

/// Runs a test with a browser, one at a time: the machine may be small.
fn shown(test: impl AsyncFnOnce(Browser)) {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed says nothing of the next one.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    actix::System::new().block_on(async {
        let whole = async {
            if let Some(browser) = Browser::start().await {
                test(browser).await;
            }
        };
        tokio::time::timeout(WHOLE, whole).await.expect("the test hangs");
    });
}

/// Markup that would be noticed if it were taken for such.
const MARKUP: &str = "<img src=x onerror=\"document.title='taken'\"></b>";

/// A script that says whether this text is among what needs attention.
fn notes(text: &str) -> String {
    format!("return document.getElementById('notes').innerText.includes({})", Value::from(text))
}

#[test]
fn a_stranger_reads_what_is_stuck_full_and_dead_and_why() {
    shown(async |browser| {
        let seed = free();
        let (node, address) = start(&cluster("one", seed, "")).await;
        let victim = Process::start("victim", seed);
        let group = node.root().group(GroupSpec::new("mail <b>room</b>")).unwrap();
        let holder = group.supervise_with(WorkerSpec::new("printer").capacity(3), |_| Ok(Holder)).unwrap();
        let named = node.supervise(MARKUP, || Holder).unwrap();
        for worker in [&holder, &named] {
            worker.until_up().await.unwrap();
        }
        let (ends, helds): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<()>()).unzip();
        let mut helds = helds.into_iter();
        named.try_send(Hold(helds.next().unwrap())).unwrap();
        helds.for_each(|held| holder.try_send(Hold(held)).unwrap());

        browser.open(&format!("http://{address}/")).await;
        // Stuck in which message, for how long, and what waits for it.
        browser.until(&notes("printer is in pages::node::Hold for")).await;
        browser.until(&notes("2 messages wait")).await;
        // Sections that are out of view are not asked for.
        let asked = browser.run("return performance.getEntriesByType('resource').map(it => it.name)").await.to_string();
        assert!(asked.contains("/summary") && !asked.contains("/requests"), "{asked}");
        browser.until(&notes("queue full")).await;
        browser.until(&notes("printer has 3 of 3 messages")).await;
        // Markup is text: no element comes of it, and no script runs.
        browser.until(&notes(MARKUP)).await;
        let found = browser.run("return [document.images.length, document.scripts.length, document.title]").await;
        assert_eq!((&found[0], &found[1], &found[2]), (&0.into(), &1.into(), &"one – heartbeat".into()));
        let tree = "return document.getElementById('tree').innerText.includes('mail <b>room</b>')";
        browser.run("document.getElementById('groups').scrollIntoView()").await;
        browser.until(tree).await;
        // A member that ends: first watched, then dead, with the evidence.
        browser.run("document.getElementById('members').scrollIntoView()").await;
        browser
            .until("return document.querySelector('#map svg')?.getAttribute('aria-label').includes('victim: alive')")
            .await;
        browser.run("document.getElementById('links').scrollIntoView()").await;
        browser.until("return document.querySelector('#curve .tail') !== null").await;
        drop(victim);
        browser.run("scrollTo(0, 0)").await;
        browser.until("return /dead\\s*victim since/.test(document.getElementById('notes').innerText)").await;
        let text = browser.run("return document.getElementById('notes').innerText").await;
        let line = text.as_str().unwrap().lines().find(|line| line.contains("victim since")).unwrap();
        assert!(line.contains("silent for") || line.contains("connection"), "{line}");
        browser.run("document.getElementById('members').scrollIntoView()").await;
        let row = "return document.querySelector('#members-rows tr')?.innerText";
        browser
            .until(&format!(
                "{row}.includes('victim') && document.querySelector('#members-rows tr').innerText.includes('dead')"
            ))
            .await;
        browser.run("document.getElementById('events').scrollIntoView()").await;
        browser
            .until("return document.getElementById('events-rows').innerText.includes('victim was declared dead')")
            .await;
        // Screen readers are told.
        browser.until("return document.getElementById('announce').textContent.length > 0").await;
        drop(ends);
        node.leave().await;
    });
}

#[test]
fn a_page_behind_a_token_asks_for_it_and_keeps_it_for_the_tab() {
    shown(async |browser| {
        let (node, address) = start(&format!("http.token = '{TOKEN}'")).await;
        node.supervise("secret", || Holder).unwrap().until_up().await.unwrap();
        browser.open(&format!("http://{address}/dashboard")).await;
        let is_open = "return document.getElementById('token').open";
        browser.until(is_open).await;
        assert_eq!(browser.run("return document.activeElement.id").await, "token-value");
        assert!(!browser.run("return document.body.innerText").await.as_str().unwrap().contains("secret"));
        // Escape leaves the page without figures, and "Go on" asks again.
        browser.press(ESCAPE).await;
        browser.until("return document.getElementById('state').textContent === 'paused'").await;
        assert_eq!(browser.run(is_open).await, false);
        browser.run("document.getElementById('pause').click()").await;
        browser.until(is_open).await;
        browser.press(&format!("wrong{ENTER}")).await;
        browser.until("return document.getElementById('token-why').textContent.includes('did not take')").await;
        browser.until(is_open).await;
        browser.press(&format!("{TOKEN}{ENTER}")).await;
        let is_shown = "return document.getElementById('tiles').innerText.includes('1 up')";
        browser.until(is_shown).await;
        // A reload does not ask again.
        browser.open(&format!("http://{address}/dashboard")).await;
        browser.until(is_shown).await;
        assert_eq!(browser.run(is_open).await, false);
        let kept = browser.run("return [Object.keys(localStorage).length, document.cookie]").await;
        assert_eq!(kept, serde_json::json!([0, ""]));
        node.leave().await;
    });
}

#[test]
fn each_section_is_reached_with_the_keyboard_and_has_a_name() {
    shown(async |browser| {
        let (node, address) = start("").await;
        browser.open(&format!("http://{address}/")).await;
        browser.until(&notes("Nothing needs attention.")).await;
        browser.press(TAB).await;
        assert_eq!(browser.run("return document.activeElement.className").await, "skip");
        let mut reached = Vec::new();
        let sections = browser.run("return [...document.querySelectorAll('main section')].map(it => it.id)").await;
        // The button for the pause, then one link for each section.
        browser.press(TAB).await;
        assert_eq!(browser.run("return document.activeElement.id").await, "pause");
        for _ in 0..sections.as_array().unwrap().len() {
            browser.press(TAB).await;
            let link = browser.run("return document.activeElement.getAttribute('href')").await;
            browser.press(ENTER).await;
            let focused =
                browser.until("return document.activeElement.tagName === 'SECTION' && document.activeElement.id").await;
            assert_eq!(link, format!("#{}", focused.as_str().unwrap()));
            reached.push(focused);
            // Back to the link, which keeps the place in the order of tabs.
            browser.run(&format!("document.querySelector('nav a[href=\"{}\"]').focus()", link.as_str().unwrap())).await;
        }
        let names: std::collections::BTreeSet<&str> = reached.iter().map(|name| name.as_str().unwrap()).collect();
        let all = sections.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, all);
        let nameless = "return [...document.querySelectorAll('section')].filter(it => !document.getElementById(it.getAttribute('aria-labelledby'))?.textContent).length
            + [...document.querySelectorAll('button, select, input, [role=region], svg')].filter(it => !(it.textContent.trim() || it.labels?.length || it.getAttribute('aria-label'))).length";
        assert_eq!(browser.run(nameless).await, 0);
        node.leave().await;
    });
}

/// The longest time in which the page answered no input, in milliseconds, while it was used for
/// some seconds.
const USE: &str = "
    let longest = 0, last = performance.now(), end = last + 5000;
    const sort = document.getElementById('workers-sort'), orders = ['name', 'failures', 'fullness', 'busy_for'];
    for (let turn = 0; performance.now() < end; turn++) {
        await new Promise(done => setTimeout(done, 0));
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
        if (turn % 100 === 0) { sort.value = orders[turn / 100 % orders.length]; sort.dispatchEvent(new Event('change')); }
    }
    return Math.round(longest)";

#[test]
fn a_hundred_thousand_workers_do_not_freeze_the_page() {
    shown(async |browser| {
        let (node, address) = start("").await;
        let count = 100_000;
        for number in 0..count {
            node.supervise(&format!("worker {number:06}"), || Holder).unwrap();
            if number % 1_000 == 0 {
                actix_rt::task::yield_now().await;
            }
        }
        browser.open(&format!("http://{address}/")).await;
        browser.until("return document.getElementById('tiles').innerText.includes('100,000 up')").await;
        browser.run("document.getElementById('workers').scrollIntoView()").await;
        let longest = browser.run(USE).await.as_u64().unwrap();
        assert!(longest < 1_500, "no input was answered for {longest} ms");
        browser.run("document.getElementById('workers-sort').value = 'name'; document.getElementById('workers-sort').dispatchEvent(new Event('change'))").await;
        browser.until("return document.querySelectorAll('#workers-rows tr').length === 50").await;
        browser.run("document.getElementById('workers-next').click()").await;
        browser.until("return document.getElementById('workers-rows').innerText.includes('worker 000050')").await;
        browser.run("document.getElementById('workers-prefix').value = 'worker 09999'; document.getElementById('workers-prefix').dispatchEvent(new Event('input'))").await;
        browser.until("return document.querySelectorAll('#workers-rows tr').length === 10").await;
        let elements = browser.run("return document.getElementsByTagName('*').length").await.as_u64().unwrap();
        assert!(elements < 3_000, "{elements} elements");
        node.leave().await;
    });
}

/// Answers for the members and links of a thousand nodes, in the place of the node's own.
const THOUSAND: &str = "
    const own = window.fetch;
    const status = number => number % 97 === 5 ? 'suspect' : number % 89 === 7 ? 'dead' : 'alive';
    const member = number => ({ name: `node-${number}`, address: '10.0.0.1:1', zone: `zone-${number % 3}`, role: 'worker', metadata: {}, status: status(number), generation: 1,
        incarnation: 0, watches_this_node: number < 900, silent_for: Math.random(), verdict: null });
    const link = number => ({ name: `node-${number}`, verdict: status(number), silent_for: Math.random(), expected_after: 1, suspected_after: 2, dead_after: 5, phi: 1, heartbeat: 9,
        observers: [`node-${number + 1}`], budget: null });
    const all = make => [...Array(1000).keys()].map(make);
    window.fetch = (path, options) => {
        const made = path === 'members' ? { node: 'node-0', cluster: 'made', is_joined: true, health: 0, members: all(member) }
            : path === 'links' ? { node: 'node-0', detector: 'fixed', links: all(link) }
            : path.startsWith('links/') ? { link: link(1), curve: [...Array(121).keys()].map(step => [step / 20, step / 30]) } : null;
        return made ? Promise.resolve(new Response(JSON.stringify(made))) : own(path, options);
    }";

#[test]
fn a_thousand_members_do_not_freeze_the_page() {
    shown(async |browser| {
        let (node, address) = start("").await;
        browser.open(&format!("http://{address}/")).await;
        browser.until(&notes("Nothing needs attention.")).await;
        browser.run(THOUSAND).await;
        browser.run("document.getElementById('members').scrollIntoView()").await;
        browser.until("return document.getElementById('cells').childElementCount === 1000").await;
        assert_eq!(browser.run("return document.querySelectorAll('#members-rows tr').length").await, 20);
        let first = "return document.querySelector('#members-rows tr').innerText.includes('suspect')";
        assert_eq!(browser.run(first).await, true, "the suspected come first");
        let longest = browser.run(USE).await.as_u64().unwrap();
        assert!(longest < 1_500, "no input was answered for {longest} ms");
        browser.show_as(1_400, "light").await;
        browser.picture("members.png").await;
        node.leave().await;
    });
}

#[test]
fn the_page_fits_wide_and_narrow_in_light_and_dark() {
    shown(async |browser| {
        let seed = free();
        let settings = cluster("berlin-1", seed, "");
        let (node, address) = start(&format!("restart.intensity = 3\n{settings}")).await;
        let names = ["berlin-2", "berlin-3", "paris-1", "paris-2"];
        let mut others = Vec::new();
        for name in names {
            others.push(Process::start(name, seed));
        }
        let mail = node.root().group(GroupSpec::new("mail")).unwrap();
        let printer = mail.supervise_with(WorkerSpec::new("printer").capacity(16), |_| Ok(Holder)).unwrap();
        let sender = mail.supervise_with(WorkerSpec::new("sender"), |_| Ok(Holder)).unwrap();
        node.supervise_shards("orders", 32, |_| Ok(Holder)).unwrap();
        for worker in [&printer, &sender] {
            worker.until_up().await.unwrap();
        }
        let _ = sender.send(Fail).await; // It restarts.
        sender.until_up().await.unwrap();
        let (ends, helds): (Vec<_>, Vec<_>) = (0..14).map(|_| mpsc::channel::<()>()).unzip();
        helds.into_iter().for_each(|held| printer.try_send(Hold(held)).unwrap());
        browser.open(&format!("http://{address}/")).await;
        browser.until(&notes("printer is in")).await;
        sleep(Duration::from_secs(2)).await;
        drop(others.pop());
        browser.until(&notes("paris-2")).await;
        for (width, scheme) in [(1_400, "light"), (1_400, "dark"), (400, "light"), (400, "dark")] {
            browser.show_as(width, scheme).await;
            for section in ["requests", "shards", "threads", "events", "groups", "links", "members", "workers"] {
                browser.run(&format!("document.getElementById('{section}').scrollIntoView()")).await;
                sleep(Duration::from_millis(100)).await;
            }
            browser.until("return document.querySelector('#shards-groups td.code')?.textContent.length > 0").await;
            // Pictures are drawn as wide as they are shown.
            for picture in ["links", "members"] {
                browser.run(&format!("document.getElementById('{picture}').scrollIntoView()")).await;
                let fits = "const it = document.querySelector('#{} svg'); return it?.clientWidth === Number(it?.getAttribute('width'))";
                browser.until(&fits.replace("{}", picture)).await;
            }
            let dead = "return /paris-2[^]*dead/.test(document.querySelector('#members-rows tr').innerText)";
            browser.until(dead).await;
            browser.run("scrollTo(0, 0)").await;
            // Nothing is wider than the window: no sideways scrolling of the page.
            let wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(wide).await, 0, "{width} {scheme}");
            assert!(contrast(&browser).await >= 4.5, "{width} {scheme}");
            browser.picture(&format!("page-{width}-{scheme}.png")).await;
        }
        drop(ends);
        node.leave().await;
    });
}

/// The least contrast of the page's texts with what is behind them, as WCAG 2.2 computes it.
async fn contrast(browser: &Browser) -> f64 {
    let script = "
        const parts = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = colour => parts(colour).slice(0, 3).map(it => it / 255).map(it => it <= .04045 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4)
            .reduce((sum, it, index) => sum + it * [.2126, .7152, .0722][index], 0);
        const behind = node => { for (; node; node = node.parentElement) { const colour = getComputedStyle(node).backgroundColor; if (parts(colour)[3] !== 0) return colour; } return 'rgb(255, 255, 255)'; };
        let least = 21;
        for (const node of document.querySelectorAll('main *, header *, nav *')) {
            if (![...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()) || node.closest('svg') || !node.getClientRects().length) continue;
            const [one, other] = [light(getComputedStyle(node).color), light(behind(node))];
            least = Math.min(least, (Math.max(one, other) + .05) / (Math.min(one, other) + .05));
        }
        return least";
    tokio::time::timeout(PATIENCE, browser.run(script)).await.unwrap().as_f64().unwrap()
}
