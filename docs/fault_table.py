"""Writes the fault table into the pages on what is promised, from what `make faults ARGS="--fault-json FILE"` wrote."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- the fault table -->", "<!-- its end -->"
CHINESE = {
    1: "空闲后端被终止",
    2: "持有者在事务中时后端死亡",
    3: "负载下服务器重启",
    4: "长时间停机，连接被拒绝",
    5: "一个后端崩溃，全部重置",
    6: "半开的 TCP，数据包被丢弃",
    7: "对端内核还在，进程被冻结",
    8: "归还时后端被冻结",
    9: "监听者不应答，积压队列已满",
    10: "已接受，但握手没有回音",
    11: "查询途中收到 RST",
    12: "启动过程在第 n 个字节后断流",
    13: "延迟、抖动、每次一个字节",
    14: "NAT 忘记空闲连接",
    15: "DNS：改址、不存在、很慢",
    16: "多个主机中第一个已死",
    17: "TLS：过期、主机名不符、更换 CA、明文应答",
    18: "连接过多（53300）",
    19: "密码已更换（28P01）",
    20: "永久拒绝（3D000、28000）",
    21: "正在启动、正在恢复（57P03）",
    22: "故障切换；借出的连接指向被降级的主库",
    23: "服务器主动终止（57P05、25P03、57014）",
    26: "客户端被 SIGKILL 杀死",
    27: "归还时事务未结束或已失败",
    28: "遗留的会话状态，12 项",
    29: "COPY、管道或异步查询未完成",
    30: "连接的属性被改动",
    31: "角色被改动，租户混用",
    32: "争用：霸占者，500 个线程抢 10 个连接",
    33: "移交的同时等待者超时",
    34: "有人等待时连接失败",
    35: "有人等待时归还坏连接",
    36: "close() 遇上等待、连接、借出",
    37: "缩到使用数以下；再扩大",
    38: "归还两次；两个线程同时归还",
    39: "归还外来的、None、已关闭的、别的池的连接",
    40: "归还后仍使用；两个线程同时使用",
    41: "嵌套借用造成死锁",
    42: "泄漏：线程死亡或忘记归还",
    43: "在 get、put、close 的任意一点中断",
    44: "等待中被中断",
    45: "从 __del__、回调、信号处理函数重入",
    46: "钩子抛异常、退出、阻塞、重入",
    47: "持锁时的慢 I/O",
    48: "无法启动线程",
    49: "线程结束，编号被重用",
    51: "asyncio：在每一步取消",
    52: "asyncio：另一个循环、已关闭的循环",
    53: "asyncio：循环被阻塞",
    54: "asyncio：任务被丢弃",
    55: "有空闲连接时 fork",
    56: "另一线程持锁时 fork",
    57: "没有描述符了（EMFILE）",
    58: "没有内存了（MemoryError）",
    59: "池还开着解释器就退出",
    62: "被 pickle、复制、spawn",
    63: "进程长时间停住",
    64: "系统时钟跳变",
    65: "笔记本休眠",
    66: "同龄连接同时到期",
    67: "每个选项的错误值",
    68: "池打印、抛出、保存的东西里有密码",
    69: "监控页面暴露：没有令牌、别的主机、POST",
    70: "名字和文本里的标记或换行",
    71: "保留下来的取用位置：秘密、内存",
    72: "服务器或查看者发来的巨大文本和乱码",
}
HEADS = {
    "en": ("| row | fault | | tests | seconds |", {"passed": "passed", "FAILED": "FAILED", "skipped": "skipped"}),
    "zh": ("| 行 | 故障 | | 测试数 | 秒 |", {"passed": "通过", "FAILED": "失败", "skipped": "跳过"}),
}


def table(rows: dict[str, dict[str, object]], language: str) -> str:
    """Return the table in Markdown."""
    head, words = HEADS[language]
    lines = [head, "| ---: | --- | --- | ---: | ---: |"]
    for number, row in rows.items():
        name = (CHINESE[int(number)] if language == "zh" else str(row["fault"])).replace("__del__", "`__del__`")
        word = words.get(str(row["outcome"]), str(row["outcome"]))
        lines.append(f"| {number} | {name} | {word} | {row['tests']} | {row['seconds']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Put the table between its marks."""
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for language in HEADS:
        page = HERE / language / "promises.md"
        text = page.read_text(encoding="utf-8")
        marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        written = f"{BEGIN}\n{table(rows, language)}\n{END}".replace("\\", r"\\")
        page.write_text(marked.sub(written, text), encoding="utf-8")


if __name__ == "__main__":
    main()
