# Read by every interactive bash: the prompt, and once per login what kind of machine this is.
case $- in *i*) ;; *) return 0 ;; esac
_chusuan_mode=$(cat /run/chusuan/mode 2>/dev/null)
if [ "$_chusuan_mode" = cpu ]; then
    PS1='(no GPU 无卡) \u@\h:\w\$ '
else
    PS1='\u@\h:\w\$ '
fi
if [ -z "$CHUSUAN_GREETED" ] && [ -n "$SSH_TTY" ]; then
    export CHUSUAN_GREETED=1
    echo "Chusuan 楚算 · 严禁挖矿，一经发现封号 · Mining is forbidden"
    echo "  /              系统盘 system disk: kept on stop, in saved images, lost on release"
    echo "  /root/data     数据盘 data disk: kept on stop, not in images, lost on release"
    echo "  /root/netdisk  网盘 net disk: yours in every instance, survives everything"
    echo "  /root/public   公共数据 public data, read only"
    if [ "$_chusuan_mode" = cpu ]; then
        echo "无卡模式: 本实例当前没有 GPU，适合整理数据和环境。No-card mode: there is no GPU in this instance now."
    elif tr '\0' '\n' </proc/1/environ 2>/dev/null | grep -q '^CHUSUAN_SIMULATED_GPUS=[1-9]'; then
        echo "模拟显卡: 没有真实硬件。SIMULATED GPUs: no hardware stands behind them."
    fi
    echo "shutdown 结束实例与计费 ends the instance and its billing · tmux 断线不中断 keeps work alive"
fi
unset _chusuan_mode
