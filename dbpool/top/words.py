"""Words: what the terminal view says, in English and in Chinese. What a monitor tells stays as it came."""

from __future__ import annotations

CHINESE = {
    # verdicts
    "healthy": "正常",
    "exhausted": "连接耗尽",
    "leak_suspected": "疑似泄漏",
    "database_slow": "数据库慢",
    "database_refuses": "数据库拒绝连接",
    "misconfigured": "配置有误",
    "closed": "已关闭",
    "unknown": "未知",
    # the head
    "live": "实时",
    "lost": "断线重试中",
    "connecting": "建立中",
    "paused": "已暂停",
    "pid": "进程",
    "up": "已运行",
    "processes": "进程",
    "does not answer": "没有应答",
    "no pool is open": "没有打开的池",
    "waiting for the monitor": "正在等待监控页面",
    # bands and lines
    "used": "使用中",
    "idle": "空闲",
    "max": "上限",
    "waiting": "等待者",
    "wait p50": "等待 p50",
    "wait p95": "等待 p95",
    "wait p99": "等待 p99",
    "opened": "新建",
    "closes": "关闭",
    "errors": "连接失败",
    "timeouts": "超时",
    "peak": "峰值",
    "total": "合计",
    "last": "最近",
    # tables
    "pools": "池",
    "connections": "连接",
    "waiters": "等待者",
    "leaks": "泄漏",
    "events": "事件",
    "settings": "配置",
    "advice": "建议",
    "pool": "池",
    "verdict": "判断",
    "id": "编号",
    "backend": "后端",
    "state": "状态",
    "held": "已占用",
    "holder": "占用者",
    "at": "位置",
    "age": "已存在",
    "uses": "使用次数",
    "retires in": "退役还有",
    "who": "谁",
    "waits": "已等待",
    "key": "键",
    "place": "位置",
    "count": "次数",
    "ago": "多久以前",
    "time": "时间",
    "event": "事件",
    "text": "内容",
    "name": "名称",
    "value": "值",
    "source": "来源",
    "figure": "数字",
    "leased": "借出",
    "checking": "检查中",
    "closing": "关闭中",
    "a connect is under way": "正在建立连接",
    "connects fail": "连接建立失败",
    "next try in": "下次重试还有",
    "demand": "平均需求",
    "mean hold": "平均占用",
    "suggested": "建议 maxconn",
    "leases": "借出次数",
    "closes by reason": "关闭原因",
    "wait p50 / p95 / p99, last minute": "最近一分钟的等待 p50 / p95 / p99",
    "connect p50 / p95 / p99, last minute": "最近一分钟的建立 p50 / p95 / p99",
    # keys
    "quit": "退出",
    "next pool": "换池",
    "table": "换表",
    "pause": "暂停",
    "span": "时长",
    "ask again": "重连",
    "light or dark": "明暗",
    "language": "English",
}
LANGUAGES = ("en", "zh")


def word(name: str, language: str) -> str:
    """Return *name* in *language*; what has no translation stays as it is."""
    return CHINESE.get(name, name) if language == "zh" else name


def wished(environment: dict[str, str]) -> str:
    """Return the language that the environment asks for."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if environment[name].lower().startswith("zh") else "en"
    return "en"
