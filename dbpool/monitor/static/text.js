// Text: what the page says, in English and in Chinese, and how it writes numbers, durations and moments.

// The English text is the key; a test sees to it that each has its Chinese.
const CHINESE = {
  // the frame
  "Live": "实时",
  "Connecting to the monitor": "正在连接监控",
  "The stream is lost: this is from {0}. Trying again.": "数据流中断：以下为 {0} 的数据。正在重试。",
  "Language": "语言",
  "Theme": "主题",
  "Auto": "自动",
  "Light": "浅色",
  "Dark": "深色",
  "Diagnostic bundle": "诊断包",
  "pid {0}": "进程 {0}",
  "up {0}": "已运行 {0}",
  "stale": "已失联",
  "Pools": "连接池",
  "and {0} more": "另有 {0} 个",
  "No pool is open in this process.": "此进程中没有打开的连接池。",
  "for {0}": "已持续 {0}",
  // figures
  "In use": "使用中",
  "idle {0}": "空闲 {0}",
  "Waiting": "等待中",
  "first: {0}": "队首 {0}",
  "nobody": "无人",
  "Wait p95": "等待 p95",
  "Connect p95": "建立连接 p95",
  "Leases/s": "每秒取用",
  "{0} in all": "共 {0} 次",
  "Connect errors": "连接失败",
  "opened {0}": "已打开 {0}",
  "Time-outs": "超时",
  "refused {0}": "被拒 {0}",
  "Leaks": "泄漏",
  "dropped {0}": "被丢弃 {0}",
  "last 60 s": "最近 60 秒",
  // charts
  "Charts": "图表",
  "Time range": "时间范围",
  "{0} min": "{0} 分钟",
  "Connections": "连接",
  "Callers waiting": "等待的调用者",
  "Wait time": "等待时间",
  "Opened and closed per second": "每秒打开与关闭",
  "Errors per second": "每秒错误",
  "used": "使用中",
  "idle": "空闲",
  "connecting": "建立中",
  "waiting": "等待",
  "opened": "打开",
  "connect errors": "连接失败",
  "time-outs": "超时",
  "max {0}": "上限 {0}",
  // tables and lists
  "Backend": "后端进程",
  "State": "状态",
  "For": "时长",
  "Holder, and where it stands now": "占用者，及其现在停在哪里",
  "Key": "键",
  "Age": "存在",
  "Uses": "次数",
  "Retires in": "剩余寿命",
  "got it at {0}": "取得于 {0}",
  "leased": "使用中",
  "checking": "检查中",
  "closing": "关闭中",
  "No connection is open.": "没有打开的连接。",
  "Waiters": "等待者",
  "Caller, and where it stands": "调用者，及其停在哪里",
  "Nobody waits.": "无人等待。",
  "Connecting": "建立连接",
  "under way": "进行中",
  "failing for": "持续失败",
  "next try in": "下次尝试",
  "last error": "最近的错误",
  "No connect is under way, and none has failed of late.": "没有正在建立的连接，近来也没有失败。",
  "Leaks by place": "泄漏，按位置",
  "No leak was seen.": "未发现泄漏。",
  "{0} ago": "{0}前",
  "Events": "事件",
  "Nothing has happened yet.": "尚无事件。",
  "Configuration": "配置",
  "Advice on the size": "大小建议",
  "Findings": "检查结果",
  "Nothing to find fault with.": "没有问题。",
  "Not enough was seen yet.": "观察还不够。",
  "demand": "需求",
  "peak": "峰值",
  "mean hold": "平均占用",
  "suggested maxconn": "建议 maxconn",
  "error": "错误",
  "warning": "警告",
  "note": "提示",
  "default": "默认",
  "given": "指定",
  // what happened, and why a connection was closed
  "connected": "已连接",
  "discarded": "已关闭",
  "connect failed": "连接失败",
  "timed out": "超时",
  "leak": "泄漏",
  "recovered": "已恢复",
  "closed": "已关闭",
  "resize": "调整大小",
  "drain": "排空",
  "evict": "逐出",
  "drained": "已排空",
  "evicted": "已逐出",
  "lost": "断开",
  "lifetime": "到期",
  "max uses": "次数已满",
  "dropped": "被丢弃",
  "interrupted": "被中断",
  "unfit": "不合格",
  // actions
  "Drain": "排空",
  "Resize": "调整大小",
  "Evict": "逐出",
  "Cancel": "取消",
  "Replace every connection of {0}? Those in use are closed when they come back.":
    "替换 {0} 的所有连接？使用中的在归还后关闭。",
  "Close connection {0}? One in use is closed when it comes back.": "关闭连接 {0}？使用中的在归还后关闭。",
  "The sizes of {0}, from now on:": "{0} 今后的大小：",
  "It failed: {0}": "失败：{0}",
  // units
  "ms": "毫秒",
  "s": "秒",
  "min": "分",
  "h": "时",
  "d": "天",
};

// The worst first. Of each its word and what it means, and the same in Chinese.
const VERDICTS = {
  database_refuses: ["Database refuses", "The pool tries again by itself.", "数据库拒绝连接", "无法打开任何连接。池会自行重试。"],
  exhausted: ["Exhausted", "See below who holds them, and where they stand.", "连接耗尽", "没有空闲连接，有调用者在等待，或空手而归。"],
  leak_suspected: ["Leak suspected", "See below where they were taken, and not given back.", "疑似泄漏", "有连接被取走而没有归还。"],
  misconfigured: ["Misconfigured", "The pool's options and the server do not go together.", "配置有误", "池的配置与服务器不相符。"],
  database_slow: ["Database slow", "The database takes long to answer, or to let us in.", "数据库缓慢", "数据库回答太慢，或迟迟不接受连接。"],
  unknown: ["Unknown", "The pool could not be asked.", "未知", "无法询问此池。"],
  closed: ["Closed", "The pool takes no more callers.", "已关闭", "池不再接受调用者。"],
  healthy: ["Healthy", "Nothing is the matter.", "正常", "没有问题。"],
};
export const GRAVE = Object.keys(VERDICTS);
export const LANGUAGES = [["en", "EN"], ["zh", "中文"]];

let language = "en";

export function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
}

export function t(english, ...values) {
  const text = (language === "zh" && CHINESE[english]) || english;
  return values.reduce((filled, value, at) => filled.replace(`{${at}}`, () => value), text);
}

export const verdictOf = (code) => (VERDICTS[code] ?? [code, "", code, ""]).slice(language === "zh" ? 2 : 0);
export const word = (code) => t(String(code).replaceAll("_", " "));

export function number(value, digits = 0) {
  if (value == null) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 0.9995) return `${number(seconds * 1000, seconds && seconds < 0.00995 ? 1 : 0)} ${t("ms")}`;
  if (seconds < 59.95) return `${number(seconds, 1)} ${t("s")}`;
  const whole = Math.round(seconds);
  const [unit, size, less, part] =
    whole < 3600 ? ["min", 60, "s", 1] : whole < 86400 ? ["h", 3600, "min", 60] : ["d", 86400, "h", 3600];
  const rest = String(Math.floor((whole % size) / part)).padStart(2, "0");
  return `${Math.floor(whole / size)} ${t(unit)} ${rest} ${t(less)}`;
}

export function clock(epoch, withSeconds = true) {
  return new Date(epoch * 1000).toTimeString().slice(0, withSeconds ? 8 : 5);
}
