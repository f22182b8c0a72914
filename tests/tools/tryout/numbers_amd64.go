package main

const sysIoperm = 173
